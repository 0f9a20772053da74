from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

SIZE = (20, 30)  # height, width of every image


def _uncompressed() -> dict[str, Any]:
    """A 20×30 code whose mask is the columns 10 to 14."""
    return {"size": list(SIZE), "counts": [200, 100, 300]}


def _compressed() -> dict[str, Any]:
    """The same mask for columns 20 to 23, compressed."""
    mask = np.zeros(SIZE, dtype=np.uint8, order="F")
    mask[:, 20:24] = 1
    code = coco_mask.encode(mask)
    return {"size": list(code["size"]), "counts": code["counts"].decode()}


CONTENT: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "a.png", "height": 20, "width": 30},
        {"id": 3, "file_name": "b.png", "height": 20, "width": 30},
        {"id": 9, "file_name": "c.png", "height": 20, "width": 30},
    ],
    "categories": [  # ids with gaps, not in order
        {"id": 44, "name": "vase"},
        {"id": 2, "name": "dog"},
        {"id": 90, "name": "kite"},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 7,
            "category_id": 44,
            "bbox": [2.0, 3.0, 8.0, 10.0],
            "area": 80.0,
            "iscrowd": 0,
            "segmentation": [[2, 3, 10, 3, 10, 13, 2, 13]],
        },
        {
            "id": 2,
            "image_id": 7,
            "category_id": 2,
            "bbox": [10, 0, 5, 20],
            "area": 100,
            "iscrowd": 1,
            "segmentation": _uncompressed(),
        },
        {
            "id": 5,
            "image_id": 3,
            "category_id": 90,
            "bbox": [20.0, 0.0, 4.0, 20.0],
            "area": 80,
            "iscrowd": 0,
            "segmentation": _compressed(),
        },
    ],
}


@pytest.fixture
def content() -> dict[str, Any]:
    """A small sound annotation file; image 9 has no annotations."""
    return copy.deepcopy(CONTENT)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, Any]], tuple[Path, Path]]:
    """Writes an annotation file and the three images; returns annotation file and image folder."""

    def write_(content: dict[str, Any]) -> tuple[Path, Path]:
        image_dir = tmp_path / "val"
        image_dir.mkdir(exist_ok=True)
        for i, name in enumerate(("a.png", "b.png", "c.png")):
            pixels = np.random.default_rng(i).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(image_dir / name)
        annotation_file = tmp_path / "annotations" / "instances_val.json"
        annotation_file.parent.mkdir(exist_ok=True)
        annotation_file.write_text(json.dumps(content))
        return annotation_file, image_dir

    return write_


@pytest.fixture
def coco_tiny() -> Path:
    """A subset of COCO laid out as COCO itself; named by B2INST_COCO_TINY."""
    root = os.environ.get("B2INST_COCO_TINY")
    if not root or not Path(root).is_dir():
        pytest.skip("B2INST_COCO_TINY names no folder")
    return Path(root)
