"""COCO's matching of detections and annotations, and AP on weighted images.

COCO's greedy assignment is repeated here because the evaluator does not return its own.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCOeval_faster

from b2inst.evaluation.ground_truth import by_pair

#: IoU thresholds of COCO's AP, T = 10; AP50 is the first, AP75 the sixth.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)

#: Recall levels at which COCO reads the precision.
_RECALLS = np.linspace(0.0, 1.0, 101)

_CELLS = 500_000  # weightings × detections processed at once: fits into the cache, some 20 MB


@dataclass(frozen=True)
class CategoryMatches:
    """Matches of one category on I images; its N detections in descending order of score."""

    image: np.ndarray  #: N int, position of each detection's image
    true_positive: np.ndarray  #: T×N bool, matched at this IoU threshold and counted
    ignored: np.ndarray  #: T×N bool, neither true nor false (crowd, or outside the area range)
    positives: np.ndarray  #: I int, annotations to be found in each image


def match(
    evaluator: COCOeval_faster, *, area: tuple[float, float] = (0, 1e10)
) -> list[CategoryMatches]:
    """Match detections to annotations of an area range, in each category that has some.

    Images are in ascending order of id.
    """
    truth, most = evaluator.cocoGt, evaluator.params.maxDets[-1]
    annotations, detections = (
        by_pair(coco.dataset["annotations"]) for coco in (truth, evaluator.cocoDt)
    )
    positions = {image: position for position, image in enumerate(sorted(truth.imgs))}
    images_of = defaultdict[int, list[int]](list)  # that have something of a category
    for image, category in sorted(annotations.keys() | detections.keys()):
        images_of[category].append(image)
    categories = []
    for category in sorted(truth.cats):
        positives = np.zeros(len(truth.imgs), dtype=np.int64)
        empty = np.zeros((len(IOU_THRESHOLDS), 0), dtype=bool)
        parts = [(np.zeros(0, dtype=np.int64), np.zeros(0), empty, empty)]
        for image in images_of[category]:
            position, own = positions[image], annotations[image, category]
            crowd = np.array([bool(a["iscrowd"]) for a in own], dtype=bool)
            ignore = crowd | _outside(own, area)
            positives[position] = np.count_nonzero(~ignore)
            if ranked := sorted(detections[image, category], key=lambda d: -d["score"])[:most]:
                overlap = np.asarray(evaluator.ious[image, category], dtype=np.float64)
                overlap = overlap.reshape(len(ranked), len(own))
                matches = _assign(overlap, crowd, ignore, _outside(ranked, area))
                scores = np.array([d["score"] for d in ranked], dtype=np.float64)
                parts.append((np.full(len(ranked), position), scores, *matches))
        if positives.any():
            images, scores, right, ignored = (
                np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True)
            )
            order = np.argsort(-scores, kind="stable")  # ties: by image
            order = order[~ignored[:, order].all(axis=0)]  # drop what never counts
            categories.append(
                CategoryMatches(images[order], right[:, order], ignored[:, order], positives)
            )
    return categories


def _assign(
    overlap: np.ndarray, crowd: np.ndarray, ignore: np.ndarray, outside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """True positives and ignored detections, T×N, by ``overlap``, N×M in order of score.

    M annotations are of a ``crowd`` or do not count; ``outside`` ones of N are ignored if free.
    """
    true_positive = np.zeros((len(IOU_THRESHOLDS), len(overlap)), dtype=bool)
    ignored = np.repeat(outside[None], len(IOU_THRESHOLDS), axis=0)
    near = overlap >= IOU_THRESHOLDS[0]
    if (near.sum(axis=0) < 2).all() and (near.sum(axis=1) < 2).all():  # no choice: masks are apart
        rows, columns = np.nonzero(near)
        matched = overlap[rows, columns] >= IOU_THRESHOLDS[:, None]
        true_positive[:, rows] = matched & ~ignore[columns]
        ignored[:, rows] = np.where(matched, ignore[columns], ignored[:, rows])
        return true_positive, ignored
    taken = np.zeros((len(IOU_THRESHOLDS), len(crowd)), dtype=bool)
    # Most detections have no annotation of at least the lowest IoU.
    for i in np.flatnonzero(near.any(axis=1)):
        free = (overlap[i] >= IOU_THRESHOLDS[:, None]) & (~taken | crowd)
        # An annotation that counts precedes an ignored one, whatever their IoUs.
        counted = free & ~ignore
        choice = np.where(counted.any(axis=1)[:, None], counted, free)
        matched = choice.any(axis=1)
        # Of equal IoUs COCO takes the last.
        best = len(crowd) - 1 - np.argmax(np.where(choice, overlap[i], -1.0)[:, ::-1], axis=1)
        taken[matched, best[matched]] = True
        ignored[matched, i] = ignore[best[matched]]
        true_positive[matched, i] = ~ignore[best[matched]]
    return true_positive, ignored


def _outside(annotations: list[dict[str, Any]], area: tuple[float, float]) -> np.ndarray:
    return np.array([not area[0] <= a["area"] <= area[1] for a in annotations], dtype=bool)


def weighted_precision(categories: list[CategoryMatches], weights: np.ndarray) -> np.ndarray:
    """Compute AP at each IoU threshold for B×I numbers of copies of the images: B×T in [0, 1].

    The average leaves out categories without annotations in a weighting; NaN if none has any.
    """
    total = np.zeros((len(weights), len(IOU_THRESHOLDS)))
    present = np.zeros(len(weights), dtype=np.int64)
    for category in categories:
        step = max(1, _CELLS // max(1, len(category.image)))
        for rows in (slice(i, i + step) for i in range(0, len(weights), step)):
            positives = weights[rows] @ category.positives
            total[rows] += _category_precision(category, weights[rows], positives)
            present[rows] += positives > 0
    with np.errstate(invalid="ignore"):
        return total / present[:, None]


def _category_precision(
    category: CategoryMatches, weights: np.ndarray, positives: np.ndarray
) -> np.ndarray:
    """AP of a category, B×T; 0 if it has no annotations.

    The highest precision at a recall or beyond is reached at a true positive, which stands for all
    recall levels between the previous one and itself; false positives only need to be counted.
    """
    copies = weights[:, category.image]  # B×N
    seen = np.cumsum(copies, axis=1, dtype=np.int32)
    result = np.zeros((len(weights), len(IOU_THRESHOLDS)))
    for t, true_positive in enumerate(category.true_positive):
        hits, skipped = np.flatnonzero(true_positive), np.flatnonzero(category.ignored[t])
        if not hits.size:
            continue  # AP is 0
        found = np.cumsum(copies[:, hits], axis=1, dtype=np.int32)  # B×(true positives)
        passed = np.pad(np.cumsum(copies[:, skipped], axis=1, dtype=np.int32), ((0, 0), (1, 0)))
        counted = seen[:, hits] - passed[:, np.searchsorted(skipped, hits)]
        precision = found / (counted + np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        recall = found / np.maximum(positives, 1)[:, None]
        levels = np.searchsorted(_RECALLS, recall, side="right")
        result[:, t] = (best * np.diff(levels, axis=1, prepend=0)).sum(axis=1) / len(_RECALLS)
    return result
