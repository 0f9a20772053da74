"""Configs and checkpoints of detectron2 for our models."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import yaml
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager

from b2inst.models import Segmenter, create_model
from b2inst.weights import load_model, start_from

_CONFIGS = Path(__file__).parent / "configs"


def add_b2inst_config(cfg: CfgNode) -> None:
    """Add the keys of ``MODEL.B2INST``. Pixel statistics are the model's own, not the config's."""
    cfg.MODEL.B2INST = CfgNode()
    cfg.MODEL.B2INST.NAME = "b2inst-blendmask-r50"  # of b2inst.create_model
    cfg.MODEL.B2INST.NUM_CLASSES = 80
    cfg.MODEL.B2INST.CLASS_NAMES = []  # carried along to b2inst.save_model; may be left out
    cfg.MODEL.B2INST.OPTIONS = CfgNode(new_allowed=True)  # of b2inst.create_model
    # Weights to start a training from: ours, of a baseline too, or detectron2's R-50.pkl.
    cfg.MODEL.B2INST.START = ""


def config_file(name: str) -> str:
    """Path of a config that comes with the package, for ``cfg.merge_from_file``.

    Raises:
        ValueError: An unknown name, with the known ones.
    """
    path = _CONFIGS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in _CONFIGS.glob("*.yaml")))
        raise ValueError(f"unknown config {name!r}; known: {known}")
    return str(path)


def build_segmenter(cfg: CfgNode) -> Segmenter:
    """The model of a config, in training mode.

    With MODEL.WEIGHTS, a finished model's that detectron2 loads afterwards, no others are fetched.

    Raises:
        ValueError: An unknown name or option, with the known ones.
        WeightsError: ``START`` cannot be read or is of another backbone.
    """
    node = cfg.MODEL.B2INST
    options = yaml.safe_load(node.OPTIONS.dump())
    if cfg.MODEL.WEIGHTS and options.pop("backbone_weights", None) is not None:
        options.setdefault("frozen_norm", True)  # as with the weights that it was trained from
    names = tuple(node.CLASS_NAMES) or None
    model = create_model(node.NAME, num_classes=node.NUM_CLASSES, class_names=names, **options)
    if node.START and not cfg.MODEL.WEIGHTS:
        start_from(model, PathManager.get_local_path(node.START))
    return model.train()


def export(weights: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Write a weights file as ``model.pth`` and ``config.yaml`` into a folder.

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
