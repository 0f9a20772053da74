"""A weights file of ours as detectron2 takes it: a checkpoint, and the config that goes with it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
import yaml

from b2inst.modules.preprocessor import Preprocessor
from b2inst.weights import load_model


def export(weights: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Write ``model.pth`` and ``config.yaml`` into a folder; returns the path of the config.

    The config holds what the model is, its class names, and the size at which it looks at images:
    ``cfg.merge_from_file`` of it is all that ``DefaultPredictor`` needs.

    Raises:
        WeightsError: a missing or damaged file, or one that is not ours.
    """
    model = load_model(weights)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, config = folder / "model.pth", folder / "config.yaml"
    state = {f"segmenter.{name}": value for name, value in model.state_dict().items()}
    torch.save({"model": state}, checkpoint)
    recipe = model.recipe
    content = {
        "VERSION": 2,
        "MODEL": {
            "META_ARCHITECTURE": "B2InstSegmenter",
            "MASK_ON": True,
            "WEIGHTS": str(checkpoint),
            "B2INST": {
                "NAME": recipe["name"],
                "NUM_CLASSES": recipe["num_classes"],
                "CLASS_NAMES": list(model.class_names or ()),
                "OPTIONS": recipe["options"],
            },
        },
        "INPUT": _sizes(model.preprocessor),
    }
    config.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return config


def _sizes(preprocessor: Any) -> dict[str, Any]:
    """How detectron2 is to resize: not at all for a model that squeezes images itself."""
    if not isinstance(preprocessor, Preprocessor):
        return {"MIN_SIZE_TRAIN": [0], "MIN_SIZE_TEST": 0}
    shorter, longer = preprocessor.shorter, preprocessor.longer_max
    return {
        "MIN_SIZE_TRAIN": [shorter],
        "MAX_SIZE_TRAIN": longer,
        "MIN_SIZE_TEST": shorter,
        "MAX_SIZE_TEST": longer,
    }
