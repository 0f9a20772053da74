"""Our own weights files: safetensors with the model's recipe in the header."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from b2inst.data.files import replacing
from b2inst.inference import resolve_device
from b2inst.models import Segmenter
from b2inst.models.catalog import create_model
from b2inst.weights.errors import WeightsError
from b2inst.weights.exported import RUNTIMES, attach, read_exported
from b2inst.weights.pickles import read_checkpoint, refuse_page

_KEY = "b2inst"
_FIELDS = {"name", "num_classes", "options", "class_names", "category_ids"}  # and notes
_REMEDY = "give a file that b2inst train or save_model wrote"


def save_model(
    model: Segmenter,
    path: str | os.PathLike[str],
    *,
    category_ids: Sequence[int] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write weights and recipe to one file, atomically.

    Args:
        model: Model to save.
        path: File, ``.safetensors``.
        category_ids: The data set's id of each label, for COCO-format results (default: the
            model's, as they were loaded).
        notes: Further entries of the header (``model_card``), such as an iteration; JSON values.

    Raises:
        WeightsError: The model is an exported one, which lacks some of its weights, or the file
            cannot be written; an earlier file is kept.
    """
    path = Path(path)
    if "exported" in model.recipe:
        raise WeightsError(f"{path}: an exported model has no weights to save; copy its file")
    ids = model.category_ids if category_ids is None else category_ids
    card = model.recipe | {"class_names": model.class_names, "category_ids": [int(i) for i in ids]}
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    try:
        with replacing(path) as partial:
            save_file(tensors, partial, metadata={_KEY: json.dumps(card | dict(notes or {}))})
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"{path}: weights could not be written ({error}); free disk space or save elsewhere"
        ) from error


def load_model(
    path: str | os.PathLike[str],
    *,
    device: torch.device | str = "cpu",
    max_detections: int | None = None,
    min_score: float = 0.0,
    tile: int | None = None,
    precision: str = "float32",
) -> Segmenter:
    """Load the model of a weights file, or of one that ``b2inst export`` wrote, for prediction.

    Args:
        path: Weights file, or exported file (``.onnx``, ``.xml``).
        device: "cpu", "cuda" or "auto"; an exported network always runs on the CPU.
        max_detections: Largest number of instances per image (default: as the model was made, 100
            for most).
        min_score: Smallest ranking score of the instances that are predicted, from 0 to 1. A higher
            one saves time, most with many detections.
        tile: Side in pixels of the overlapping tiles that images are cut into, which saves memory,
            at least 160 for most models (default: whole images).
        precision: "float32"; "bfloat16", faster where the device supports it, with slightly
            different results; or "auto", bfloat16 where the device supports it. ONNX Runtime has
            float32 only.

    Raises:
        ValueError: The precision is unknown, ``max_detections`` is below 1, ``min_score`` is not
            from 0 to 1, the tile is too small, or this machine lacks the device.
        WeightsError: The file is missing, damaged, not one of ours or from another version, or its
            runtime is not installed.
    """
    path, device = Path(path), resolve_device(str(device))
    exported = path.suffix in RUNTIMES
    card, tensors, run = read_exported(path) if exported else (*read_weights(path), None)
    try:
        names = card["class_names"]
        model = create_model(
            card["name"],
            num_classes=card["num_classes"],
            class_names=None if names is None else tuple(names),
            **card["options"],
        )
        if run is not None:
            attach(model, run, card["exported"])
        model.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:500]
        raise WeightsError(
            f"{path}: cannot be loaded ({reason}); use the version of b2inst that wrote it"
        ) from error
    model.category_ids = tuple(card["category_ids"])
    model.to(device).precision = precision
    model.tile, model.min_score = tile, min_score
    if max_detections is not None:
        model.max_detections = max_detections
    return model


def model_card(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Recipe, class names and category ids of a weights file."""
    path = Path(path)
    read = read_exported(path) if path.suffix in RUNTIMES else read_weights(path, tensors=False)
    return read[0]


def read_weights(
    path: Path, *, tensors: bool = True
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read recipe and, if asked for, tensors; WeightsError if it is no file of ``save_model``."""
    if not path.is_file():
        inside = path / "model.safetensors"
        found = f"; did you mean {inside}?" if inside.is_file() else ""
        raise WeightsError(f"{path}: no such weights file{found}")
    refuse_page(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata, names = file.metadata() or {}, list(file.keys())
            values = {name: file.get_tensor(name) for name in names if tensors}
    except SafetensorError as error:
        raise WeightsError(f"{path}: {_not_ours(path, error)}") from error
    if _KEY not in metadata:
        raise WeightsError(f"{path}: holds no b2inst recipe, only {len(names)} tensors; {_REMEDY}")
    try:
        card = json.loads(metadata[_KEY])
    except ValueError:
        card = None
    if not isinstance(card, dict) or not card.keys() >= _FIELDS:
        raise WeightsError(f"{path}: its b2inst recipe is damaged; {_REMEDY}")
    return card, values


def _not_ours(path: Path, error: SafetensorError) -> str:
    """What a file is that safetensors cannot read, and what to do."""
    try:
        tensors = read_checkpoint(path)
    except WeightsError:
        return f"not a readable safetensors file ({error}); {_REMEDY}"
    return (
        f"a checkpoint of {len(tensors)} tensors; convert it (b2inst convert {path} "
        f"NEW.safetensors --from adelaidet|detectron2|yolact), or {_REMEDY}"
    )
