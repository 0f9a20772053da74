from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from b2inst.data import Annotation, CocoIndex, ImageRecord
from b2inst.data.segmentation import to_rle
from b2inst.evaluation import Prediction
from b2inst.ops.masks import encode_rle

SIZE = (40, 48)


def square(top: int, left: int, side: int) -> torch.Tensor:
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[top : top + side, left : left + side] = True
    return mask


def polygon(top: int, left: int, side: int) -> list[list[float]]:
    return [[left, top, left + side, top, left + side, top + side, left, top + side]]


def prediction(
    image_id: int, mask: torch.Tensor, *, category: int = 7, score: float = 0.9
) -> Prediction:
    rows, cols = mask.nonzero(as_tuple=True)
    x, y = int(cols.min()), int(rows.min())
    return {
        "image_id": image_id,
        "category_id": category,
        "score": score,
        "class_score": score,
        "bbox": [x, y, int(cols.max()) + 1 - x, int(rows.max()) + 1 - y],
        "segmentation": encode_rle(mask[None])[0],
    }


@pytest.fixture
def index(tmp_path: Path) -> CocoIndex:
    """Four images; each but the last, which is empty, has a square of 20 pixels and a crowd."""
    images, annotations = [], {}
    for image_id in (1, 2, 3, 4):
        path = tmp_path / f"{image_id}.png"
        Image.fromarray(np.full((*SIZE, 3), 60 * image_id, dtype=np.uint8)).save(path)
        images.append(ImageRecord(id=image_id, path=path, height=SIZE[0], width=SIZE[1]))
        annotations[image_id] = [
            Annotation(
                id=10 * image_id + crowd,
                label=1,
                bbox=(4.0, 8.0, 20.0, 20.0) if not crowd else (0.0, 0.0, 4.0, 4.0),
                area=400.0,
                rle=to_rle(polygon(8, 4, 20) if not crowd else polygon(0, 0, 4), *SIZE),
                crowd=bool(crowd),
            )
            for crowd in (0, 1)
            if image_id != 4
        ]
    return CocoIndex(
        annotation_file=tmp_path / "instances.json",
        image_dir=tmp_path,
        images=images,
        annotations=annotations,
        class_names=("star", "gear"),
        category_ids=(3, 7),
        skipped=[],
        notes=[],
        fingerprint="",
    )
