"""A weights file as a detectron2 checkpoint and its config."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import yaml

from b2inst.weights import load_model


def export(weights: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Write ``model.pth`` and ``config.yaml`` into a folder.

    Returns:
        Path of the config, which ``cfg.merge_from_file`` reads: the model, its class names and its
        test size, all that ``DefaultPredictor`` needs.

    Raises:
        WeightsError: A missing or damaged file, or one that is not ours.
    """
    model = load_model(weights)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, config = folder / "model.pth", folder / "config.yaml"
    state = {f"segmenter.{name}": value for name, value in model.state_dict().items()}
    torch.save({"model": state}, checkpoint)
    sizes = {"MIN_SIZE_TRAIN": [0], "MIN_SIZE_TEST": 0}  # the model itself squeezes images
    if model.preprocessor.fixed_size is None:
        shorter, longer = model.preprocessor.shorter, model.preprocessor.longer_max
        sizes = {"MIN_SIZE_TRAIN": [shorter], "MAX_SIZE_TRAIN": longer}
        sizes |= {"MIN_SIZE_TEST": shorter, "MAX_SIZE_TEST": longer}
    own = {
        "NAME": model.recipe["name"],
        "NUM_CLASSES": model.recipe["num_classes"],
        "CLASS_NAMES": list(model.class_names or ()),
        "OPTIONS": model.recipe["options"],
    }
    architecture = {"META_ARCHITECTURE": "B2InstSegmenter", "MASK_ON": True, "B2INST": own}
    content = {
        "VERSION": 2,
        "MODEL": architecture | {"WEIGHTS": str(checkpoint)},
        "INPUT": sizes,
    }
    config.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return config
