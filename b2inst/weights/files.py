"""Our own weights files: safetensors with the model's recipe in the header."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from b2inst.models import Segmenter
from b2inst.models.catalog import create_model
from b2inst.weights.errors import WeightsError
from b2inst.weights.exported import attach, is_exported, read_exported

_KEY = "b2inst"


def save_model(
    model: Segmenter,
    path: str | os.PathLike[str],
    *,
    category_ids: tuple[int, ...] = (),
    notes: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Write weights and recipe to one file, atomically.

    Args:
        model: to save.
        path: of the file, ``.safetensors``.
        category_ids: the data set's id of each label, for COCO-format results.
        notes: further entries of the header (``model_card``), such as an iteration; JSON values.

    Raises:
        WeightsError: an exported model, which lacks some of its weights, a folder that cannot be
            written, or a full disk; an earlier file is kept.
    """
    path = Path(path)
    if "exported" in model.recipe:
        raise WeightsError(f"{path}: an exported model has no weights to save; copy its file")
    card = model.recipe | {"class_names": model.class_names, "category_ids": category_ids}
    card |= notes
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(tensors, partial, metadata={_KEY: json.dumps(card)})
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise WeightsError(
            f"{path}: weights could not be written ({error}); free disk space or choose another "
            "folder"
        ) from error


def load_model(
    path: str | os.PathLike[str],
    *,
    device: torch.device | str = "cpu",
    max_detections: int | None = None,
    tile: int | None = None,
    precision: str = "float32",
) -> Segmenter:
    """The model of a weights file, or of one that ``b2inst export`` wrote, ready to predict.

    Args:
        device: where to load the model; an exported network always runs on the CPU.
        max_detections: largest number of instances per image (default: as the model was made, 100
            for most).
        tile: side in pixels of the overlapping tiles that images are cut into, which saves memory
            (default: whole images).
        precision: of the network: "float32"; "bfloat16", faster where the device supports it, with
            slightly different boxes, scores and masks; "auto", bfloat16 where the device supports
            it. ONNX Runtime has float32 only.

    Raises:
        ValueError: another precision, or a ``max_detections`` below 1.
        WeightsError: a missing or damaged file, one not written by ``save_model`` or ``b2inst
            export``, a recipe of another version, weights that do not fit the recipe, or a runtime
            that is not installed.
    """
    exported = read_exported(path) if is_exported(path) else None
    card = model_card(path) if exported is None else exported.card
    try:
        names = card["class_names"]
        model = create_model(
            card["name"],
            num_classes=card["num_classes"],
            class_names=None if names is None else tuple(names),
            **card["options"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path}: holds a model that cannot be built ({error}); load it with the version of "
            "b2inst that wrote it"
        ) from error
    if exported is None:
        load_weights(model, path)
    else:
        attach(model, exported)
    model.category_ids = tuple(card["category_ids"])
    model.to(device).precision = precision
    model.tile = tile
    if max_detections is not None:
        model.max_detections = max_detections
    return model


def model_card(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Recipe, class names and category ids of a weights file."""
    return read_exported(path).card if is_exported(path) else read_weights(path, tensors=False)[0]


def load_weights(model: Segmenter, path: str | os.PathLike[str]) -> None:
    """Load weights into a model of the same architecture.

    Raises:
        WeightsError: as ``load_model``; for another architecture it lists what differs.
    """
    card, tensors = read_weights(path)
    own = model.state_dict()
    problems = [f"missing {name}" for name in own if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in own]
    problems += [
        f"{name} is {tuple(tensors[name].shape)}, the model wants {tuple(value.shape)}"
        for name, value in own.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise WeightsError(
            f"{path}: weights of {card['name']!r} do not fit "
            f"{model.recipe.get('name', 'this model')!r}: {'; '.join(problems[:3])}{more}; "
            "use load_model(path), which builds the model the file was saved from"
        )
    model.load_state_dict(tensors)


def read_weights(
    path: str | os.PathLike[str], *, tensors: bool = True
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Recipe and, if asked for, tensors of a weights file.

    Raises:
        WeightsError: a missing or damaged file, or one not written by ``save_model``.
    """
    if not Path(path).is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            values = {name: file.get_tensor(name) for name in file.keys()} if tensors else {}  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error})") from error
    if _KEY not in metadata:
        raise WeightsError(
            f"{path}: holds no b2inst recipe; give a file written by b2inst.save_model"
        )
    return json.loads(metadata[_KEY]), values
