"""Random COCO ground truth and detections that overlap it more or less."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from b2inst.evaluation import Prediction

SIZE = (72, 96)  # height, width: not square, so that a swap of the axes shows


def rle(mask: np.ndarray) -> dict[str, Any]:
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(code["size"]), "counts": code["counts"].decode()}


def ellipse(generator: np.random.Generator) -> np.ndarray:
    """A turned ellipse, H×W bool, with at least one pixel."""
    height, width = SIZE
    ys, xs = np.mgrid[:height, :width]
    centre = generator.uniform((8, 8), (height - 8, width - 8))
    radii, turn = generator.uniform(3, 24, size=2), generator.uniform(0, np.pi)
    u = (xs - centre[1]) * np.cos(turn) + (ys - centre[0]) * np.sin(turn)
    v = (ys - centre[0]) * np.cos(turn) - (xs - centre[1]) * np.sin(turn)
    return (u / radii[0]) ** 2 + (v / radii[1]) ** 2 <= 1


def box(mask: np.ndarray) -> list[float]:
    """x y w h of a mask's pixels."""
    ys, xs = np.nonzero(mask)
    if not len(ys):
        return [0.0, 0.0, 0.0, 0.0]
    return [float(v) for v in (xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1)]


def annotation(
    number: int, image_id: int, category_id: int, mask: np.ndarray, *, iscrowd: int = 0
) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": rle(mask),
        "area": float(mask.sum()),
        "bbox": box(mask),
        "iscrowd": iscrowd,
    }


def prediction(
    image_id: int,
    category_id: int,
    mask: np.ndarray,
    score: float,
    class_score: float | None = None,
) -> Prediction:
    return {
        "image_id": image_id,
        "category_id": category_id,
        "score": score,
        "class_score": score if class_score is None else class_score,
        "bbox": box(mask),
        "segmentation": rle(mask),
    }


def dataset(
    annotations: list[dict[str, Any]], *, images: int, categories: tuple[int, ...] = (2, 3, 7)
) -> dict[str, Any]:
    height, width = SIZE
    return {
        "info": {},
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": height, "width": width}
            for i in range(10, 10 + images)
        ],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"class {i}"} for i in categories],
    }


def random_pair(
    seed: int, *, images: int = 30, crowds: float = 0.08
) -> tuple[dict[str, Any], list[Prediction]]:
    """Ground truth (some crowds, some images without any) and detections.

    Scores of masks and boxes differ. Some detections are copies, some shifted by a few pixels, some
    of the wrong category, some nowhere.
    """
    generator = np.random.default_rng(seed)
    found: list[dict[str, Any]] = []
    predictions: list[Prediction] = []
    for image_id in range(10, 10 + images):
        masks = [ellipse(generator) for _ in range(generator.integers(0, 6))]
        for mask in masks:
            category = int(generator.choice([2, 3, 7], p=[0.6, 0.3, 0.1]))
            crowd = int(generator.random() < crowds)
            found.append(annotation(len(found) + 1, image_id, category, mask, iscrowd=crowd))
            for _ in range(generator.integers(0, 4)):
                shift = np.rint(generator.normal(0, 2, size=2)).astype(int)
                guess = category if generator.random() < 0.85 else 3
                moved = np.roll(mask, tuple(shift), axis=(0, 1))
                scores = generator.random(2).tolist()
                predictions.append(prediction(image_id, guess, moved, *scores))
        for _ in range(generator.integers(0, 3)):
            scores = generator.random(2).tolist()
            predictions.append(prediction(image_id, 2, ellipse(generator), *scores))
    return dataset(found, images=images), predictions


def dense_pair(count: int = 120) -> tuple[dict[str, Any], list[Prediction]]:
    """Squares of 5×5 pixels in the first of two images; each is found exactly."""
    corners = list(product(range(0, 66, 6), range(0, 90, 6)))[:count]
    masks = np.zeros((count, *SIZE), dtype=bool)
    for mask, (top, left) in zip(masks, corners, strict=True):
        mask[top : top + 5, left : left + 5] = True
    truth = dataset([annotation(i + 1, 10, 2, m) for i, m in enumerate(masks)], images=2)
    return truth, [prediction(10, 2, mask, 1.0) for mask in masks]


@pytest.fixture(scope="session")
def pair() -> tuple[dict[str, Any], list[Prediction]]:
    return random_pair(0)
