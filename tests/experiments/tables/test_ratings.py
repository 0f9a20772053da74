"""True qualities against SciPy's morphology, calibration and correlation by their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from scipy import ndimage
from torchvision.ops import box_convert, box_iou

from b2inst.evaluation import EvaluationError, Prediction
from b2inst.experiments.tables.score_quality import (
    calibration,
    calibration_error,
    rank_correlation,
    rate,
)

from ...evaluation.conftest import SIZE, annotation, dataset, prediction, random_pair


def agreement(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Mask IoU and Dice of the inner boundaries."""
    kernel = np.ones((3, 3))
    edges = [m & ~ndimage.binary_erosion(m, kernel, border_value=0) for m in (a, b)]
    dice = 2 * (edges[0] & edges[1]).sum() / (edges[0].sum() + edges[1].sum())
    return (a & b).sum() / (a | b).sum(), dice


def square(top: int, left: int, side: int = 20) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_the_truth_is_the_annotation_of_the_class_that_is_overlapped_most() -> None:
    truth, predictions = random_pair(5, images=20, crowds=0.3)
    ratings = rate(predictions, truth)
    found = unmatched = 0
    for i, record in enumerate(predictions):
        own = [
            a
            for a in truth["annotations"]
            if (a["image_id"], a["category_id"]) == (record["image_id"], record["category_id"])
            and not a["iscrowd"]
        ]
        mask = coco_mask.decode(record["segmentation"]).astype(bool)
        qualities = [agreement(mask, coco_mask.decode(a["segmentation"]).astype(bool)) for a in own]
        best = max(range(len(own)), key=lambda j: qualities[j][0], default=None)
        if best is None or qualities[best][0] == 0:
            unmatched += 1
            assert (ratings.true_iou[i], ratings.true_boundary[i]) == (0, 0)
            assert not ratings.of_object[i]
            continue
        iou, dice = qualities[best]
        assert ratings.true_iou[i] == pytest.approx(iou, abs=1e-6)
        assert ratings.true_boundary[i] == pytest.approx(dice, abs=1e-5)  # ε of Eq. 1
        boxes = box_convert(
            torch.tensor([record["bbox"], own[best]["bbox"]], dtype=torch.float64), "xywh", "xyxy"
        )
        assert ratings.of_object[i] == (box_iou(boxes[:1], boxes[1:]).item() >= 0.5)
        found += int(ratings.of_object[i])
    assert found > 20
    assert unmatched > 10


def test_a_crowd_and_another_class_are_no_truth() -> None:
    annotations = [
        annotation(1, 10, 2, square(0, 0), iscrowd=1),
        annotation(2, 10, 3, square(0, 0)),
        annotation(3, 10, 2, square(40, 40)),
    ]
    ratings = rate([prediction(10, 2, square(0, 0), 0.9)], dataset(annotations, images=1))
    assert ratings.true_iou.tolist() == ratings.true_boundary.tolist() == [0.0]
    assert ratings.of_object.tolist() == [False]


def test_a_frame_around_the_image_is_background() -> None:
    # The object fills a corner: its boundary runs along the frame of the image, too.
    annotations = [annotation(1, 10, 2, square(0, 0))]
    found = rate([prediction(10, 2, square(0, 0, 19), 0.9)], dataset(annotations, images=1))
    assert found.true_boundary[0] == pytest.approx(
        2 * 37 / (4 * 19 + 4 * 18), abs=1e-5
    )  # 19 + 18 cells along the two sides they share, of 76 and 72


def test_predicted_qualities_are_those_of_the_file() -> None:
    annotations = [annotation(1, 10, 2, square(0, 0))]
    record: Prediction = prediction(10, 2, square(0, 0), 0.3, 0.5) | {"boundary_score": 0.6}
    ratings = rate([record], dataset(annotations, images=1))
    assert "iou" not in ratings
    assert ratings[["boundary", "class", "mask"]].values.tolist() == [[0.6, 0.5, 0.3]]
    assert rate([], dataset(annotations, images=1)).of_object.shape == (0,)
    with pytest.raises(EvaluationError, match="image_id 99"):
        rate([record | {"image_id": 99}], dataset(annotations, images=1))


def test_calibration_means_what_it_says() -> None:
    rng = np.random.default_rng(0)
    predicted = np.concatenate([rng.random(500) * 0.75, [1.0, 0.0]])
    true = rng.random(502)
    bins = calibration(predicted, true, bins=8)
    assert [b.low for b in bins] == [b / 8 for b in range(8)]
    assert sum(b.count for b in bins) == 502
    assert (bins[6].count, bins[6].predicted, bins[6].true) == (0, None, None)
    assert (bins[7].count, bins[7].predicted, bins[7].true) == (1, 1.0, true[500])
    places = np.digitize(predicted, np.linspace(0, 1, 9)[1:-1])
    gap = 0.0
    for i in range(8):
        inside = places == i
        if inside.any():
            assert bins[i].true == pytest.approx(true[inside].mean())
            gap += abs((predicted[inside] - true[inside]).sum())
    assert calibration_error(bins) == pytest.approx(gap / 502)


def test_nothing_to_measure_is_told_as_none() -> None:
    nothing = np.zeros(0)
    bins = calibration(nothing, nothing)
    assert {(b.count, b.true) for b in bins} == {(0, None)}
    assert calibration_error(bins) is None
    assert rank_correlation(nothing, nothing) is None
    assert rank_correlation(np.ones(5), np.arange(5.0)) is None


def test_rank_correlation_sees_order_alone() -> None:
    rng = np.random.default_rng(0)
    x = rng.random(50)
    assert rank_correlation(x, np.exp(5 * x)) == pytest.approx(1)
    y = rng.random(50)
    ranks: list[Any] = [np.argsort(np.argsort(v)) for v in (x, y)]
    assert rank_correlation(x, y) == pytest.approx(np.corrcoef(*ranks)[0, 1])
