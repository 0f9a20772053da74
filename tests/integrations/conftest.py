from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from b2inst.models import BasisSegmenter, create_model

CLASSES = ("star", "gear", "leaf")


@pytest.fixture
def finder() -> Callable[..., BasisSegmenter]:
    """A function: name to a small model with random weights that finds something in any image."""

    def build(name: str, **options: object) -> BasisSegmenter:
        torch.manual_seed(0)
        model = create_model(name, num_classes=3, class_names=CLASSES, **options)
        for parameter in model.instance_head.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.2)
        return model.eval()

    return build


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    """A function: height, width and seed to a random H×W×3 uint8 array."""

    def make(height: int, width: int, seed: int = 0) -> np.ndarray:
        coarse = np.random.default_rng(seed).integers(0, 256, (-(-height // 8), -(-width // 8), 3))
        return coarse.astype(np.uint8).repeat(8, 0).repeat(8, 1)[:height, :width].copy()

    return make


@pytest.fixture
def coco_folder(tmp_path: Path, picture: Callable[..., np.ndarray]) -> Path:
    """Six images of two sizes with overlapping polygons; category ids have gaps."""
    random = np.random.default_rng(1)
    folder = tmp_path / "data"
    (folder / "train").mkdir(parents=True)
    (folder / "annotations").mkdir()
    images, annotations = [], []
    for i in range(6):
        height, width = ((96, 128), (120, 90))[i % 2]
        name = f"{i}.png"
        Image.fromarray(picture(height, width, i)).save(folder / "train" / name)
        images.append({"id": 10 + i, "file_name": name, "height": height, "width": width})
        for k in range(3):
            x, y, w, h = random.uniform((0, 0, 20, 20), (width - 40, height - 40, 40, 40))
            # Quarters of a pixel, of which sums are exact in any precision.
            x, y, w, h = (round(4 * value) / 4 for value in (x, y, w, h))
            # Two triangles that meet in a point.
            parts = [[x, y, x + w, y, x + w / 2, y + h / 2]]
            parts += [[x, y + h, x + w, y + h, x + w / 2, y + h / 2]]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 10 + i,
                    "category_id": (2, 5, 9)[k],
                    "bbox": [x, y, w, h],
                    "area": w * h / 2,
                    "iscrowd": 0,
                    "segmentation": parts,
                }
            )
    categories = [{"id": i, "name": n} for i, n in zip((2, 5, 9), CLASSES, strict=True)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
    return folder
