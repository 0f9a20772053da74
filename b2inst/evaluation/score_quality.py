"""How well the scoring head rates masks, against their true quality.

The truth of a detection is the annotation of its class (no crowd) that its mask overlaps most. Its
true S_IoU is the mask IoU with it, its true S_boundary the Dice of Eq. 1: the functions that the
scoring head is trained with, on whole masks in the image's own pixels. (Training measures in the
network's input; where that is larger than the image, one-pixel boundaries are finer there.)

A detection that overlaps nothing of its class has true qualities of 0. ``of_object`` leaves it out,
and with it those whose box misses the object (box IoU below 0.5): the scoring head is trained on
masks of objects and has no notion of a mask of nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask

from b2inst.data.segmentation import to_rle
from b2inst.evaluation.average_precision import load_pair
from b2inst.evaluation.cut_outs import CutOut, common_pixels, cut_out
from b2inst.evaluation.ground_truth import Annotations
from b2inst.evaluation.predictions import Prediction
from b2inst.ops.boundary import laplacian_boundary
from b2inst.ops.quality import EPSILON

#: What a scoring head may predict, and under which name a prediction file has it.
QUALITIES = {"iou": "iou_score", "boundary": "boundary_score"}

_FOUND = 0.5  # box IoU from which a detection is taken to be of an object
_BINS = 10


@dataclass(frozen=True)
class Ratings:
    """Predicted and true qualities of N detections."""

    class_scores: np.ndarray  #: N in [0, 1]
    scores: np.ndarray  #: N in [0, 1], the ranking score (Eq. 2)
    predicted: dict[str, np.ndarray]  #: N in [0, 1] for each quality that the head predicts
    true: dict[str, np.ndarray]  #: N in [0, 1] for both qualities; 0 where nothing is overlapped
    of_object: np.ndarray  #: N bool, the box has an IoU of at least 0.5 with the object's


@dataclass(frozen=True)
class CalibrationBin:
    """The detections whose predicted quality is in [low, high); in the last bin up to 1."""

    low: float
    high: float
    count: int
    predicted: float | None  #: mean of the predicted quality; None in an empty bin
    true: float | None  #: mean of the true quality


def rate(predictions: list[Prediction], annotations: Annotations) -> Ratings:
    """Measure the true qualities of detections.

    Args:
        predictions: COCO results with ``class_score`` and what the scoring head predicted.
        annotations: COCO annotation file, or its content.

    Raises:
        EvaluationError: predictions or annotations are not valid, or do not belong together.
    """
    truth, predictions = load_pair(predictions, annotations)
    objects: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for found in truth.dataset["annotations"]:
        if not found["iscrowd"]:
            objects[found["image_id"], found["category_id"]].append(found)
    detected: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, record in enumerate(predictions):
        detected[record["image_id"], record["category_id"]].append(i)
    true = {name: np.zeros(len(predictions)) for name in QUALITIES}
    of_object = np.zeros(len(predictions), dtype=bool)
    for pair, places in detected.items():
        own, records = objects.get(pair, []), [predictions[i] for i in places]
        if not own:
            continue
        size = records[0]["segmentation"]["size"]
        truths = [to_rle(found["segmentation"], *size) for found in own]
        codes = [record["segmentation"] for record in records]
        overlap = coco_mask.iou(codes, truths, [0] * len(truths))
        best = overlap.argmax(axis=1)
        boxes = coco_mask.iou(
            np.array([record["bbox"] for record in records], dtype=np.float64),
            np.array([found["bbox"] for found in own], dtype=np.float64),
            [0] * len(truths),
        )
        rows = np.flatnonzero(overlap.max(axis=1) > 0)
        chosen = np.array(places)[rows]
        true["iou"][chosen] = overlap[rows, best[rows]]
        true["boundary"][chosen] = _boundary_dice([codes[i] for i in rows], truths, best[rows])
        of_object[chosen] = boxes[rows, best[rows]] >= _FOUND
    predicted = {
        name: np.array([record[field] for record in predictions], dtype=np.float64)
        for name, field in QUALITIES.items()
        if predictions and field in predictions[0]
    }
    return Ratings(
        class_scores=np.array([r.get("class_score", r["score"]) for r in predictions], dtype=float),
        scores=np.array([r["score"] for r in predictions], dtype=float),
        predicted=predicted,
        true=true,
        of_object=of_object,
    )


def calibration(
    predicted: np.ndarray, true: np.ndarray, *, bins: int = _BINS
) -> list[CalibrationBin]:
    """Mean true quality by bins of equal width of the predicted quality."""
    places = np.minimum((predicted * bins).astype(int), bins - 1)
    result = []
    for i in range(bins):
        inside = places == i
        count = int(inside.sum())
        result.append(
            CalibrationBin(
                low=i / bins,
                high=(i + 1) / bins,
                count=count,
                predicted=float(predicted[inside].mean()) if count else None,
                true=float(true[inside].mean()) if count else None,
            )
        )
    return result


def calibration_error(bins: Iterable[CalibrationBin]) -> float | None:
    """Expected calibration error: the bins' mean |predicted - true|, weighted by their counts.

    In [0, 1]; None where all bins are empty.
    """
    filled = [b for b in bins if b.predicted is not None and b.true is not None]
    total = sum(b.count for b in filled)
    if not total:
        return None
    return sum(b.count * abs(b.predicted - b.true) for b in filled) / total  # type: ignore[operator]


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Spearman's correlation in [-1, 1]; None where it is not defined (a constant, too few)."""
    from scipy.stats import spearmanr  # here, since it is slow to import and no worker needs it

    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return None
    value = float(spearmanr(one, other).statistic)
    return None if math.isnan(value) else value


def _boundary_dice(
    predicted: list[dict[str, Any]], truths: list[dict[str, Any]], chosen: np.ndarray
) -> np.ndarray:
    """Boundary Dice (Eq. 1) of M run-length codes with their choice of the true ones."""
    true_outlines = [_outline(code) for code in truths]
    dice = np.zeros(len(predicted))
    for i, (code, k) in enumerate(zip(predicted, chosen.tolist(), strict=True)):
        one, other = _outline(code), true_outlines[k]
        total = np.count_nonzero(one.mask) + np.count_nonzero(other.mask)
        dice[i] = (2 * common_pixels(one, other) + EPSILON) / (total + EPSILON)
    return dice


def _outline(code: dict[str, Any]) -> CutOut:
    """Around the mask is background, as Eq. 1 takes it, also where the frame of the image is."""
    window, mask = cut_out(code)
    return CutOut(window, laplacian_boundary(torch.from_numpy(mask), frame="constant").numpy())
