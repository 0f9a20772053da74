"""Our own weights files: safetensors with the model's recipe in the header."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

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
    """Save the weights of a model, and all that is needed to build it, to one file, atomically.

    Args:
        model: Model to save.
        path: File to write (``.safetensors``).
        category_ids: Category id of each label, for COCO-format results (default:
            ``model.category_ids``).
        notes: Further entries of the header, such as an iteration; their values must be valid JSON.

    Raises:
        WeightsError: The model was loaded from an exported file, which lacks some of its weights,
            or the file cannot be written. An existing file is then kept.
    """
    path = Path(path)
    if "exported" in model.recipe:
        raise WeightsError(f"{path}: an exported model has no weights to save; copy its file")
    ids = model.category_ids if category_ids is None else category_ids
    card = model.recipe | {"class_names": model.class_names, "category_ids": [int(i) for i in ids]}
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    try:
        with replacing(path) as partial:
            # Not save_file, which hides its file from other users.
            partial.write_bytes(save(tensors, {_KEY: json.dumps(card | dict(notes or {}))}))
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
    """Load a model for prediction, from a weights file or a file written by ``b2inst export``.

    Args:
        path: Weights file, or exported file (``.onnx``, ``.xml``).
        device: "cpu", "cuda" or "auto". An exported network always runs on the CPU.
        max_detections: Maximum number of instances per image (default: the model's own limit, 100
            for most models).
        min_score: Minimum ranking score of predicted instances, from 0 to 1. A higher value saves
            time, especially with many detections.
        tile: Side in pixels of the overlapping tiles that images are cut into to save memory, at
            least 160 for most models (default: whole images).
        precision: "float32"; "bfloat16", which is faster on devices that support it and gives
            slightly different results; or "auto", which is "bfloat16" if the device supports it and
            "float32" otherwise. ONNX Runtime supports "float32" only.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: The precision is unknown, ``max_detections`` is below 1, ``min_score`` is not
            between 0 and 1, the tile is too small, or the device is not available.
        WeightsError: The file is missing, damaged, not a file of b2inst or from another version, or
            the runtime it needs is not installed.
    """
    path, device = Path(path), resolve_device(str(device))
    exported = path.suffix.lower() in RUNTIMES
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
    exported = path.suffix.lower() in RUNTIMES
    return (read_exported(path) if exported else read_weights(path, tensors=False))[0]


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
