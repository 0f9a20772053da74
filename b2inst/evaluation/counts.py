"""The metrics of label images, which microscopy uses: right, wrong and missed objects, counted.

Detections above a score threshold become a label image, where each pixel belongs to one object at
most: of several it is the one of the highest score, and a detection left without pixels is none.
They are matched one to one with the objects of their class, as many as can be at an IoU threshold
and then those of the largest IoUs. From the numbers of pairs (TP), other detections (FP) and other
objects (FN), summed over images and classes, follow

- DSB AP (2018 Data Science Bowl; Caicedo et al. 2019): TP / (TP + FP + FN), averaged over the IoU
  thresholds 0.5, 0.55, … 0.95. StarDist calls it accuracy, Cellpose average precision.
- PQ (Kirillov et al. 2019): the sum of the pairs' IoUs / (TP + FP/2 + FN/2), at IoUs above 0.5.

True masks are taken as they are, also where they overlap: no order says whose a pixel is. Crowds
are not to be found, and unmatched detections with over half of their pixels in one do not count.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from faster_coco_eval import COCO
from scipy.optimize import linear_sum_assignment

from b2inst.data.segmentation import to_rle
from b2inst.evaluation.average_precision import load_pair
from b2inst.evaluation.bootstrap import draw_weights
from b2inst.evaluation.cut_outs import cut_out
from b2inst.evaluation.errors import EvaluationError
from b2inst.evaluation.ground_truth import Annotations
from b2inst.evaluation.matches import IOU_THRESHOLDS
from b2inst.evaluation.predictions import Prediction

#: The first is PQ's, which an IoU of 0.5 does not reach; those of DSB AP follow.
_THRESHOLDS = np.array([np.nextafter(0.5, 1), *IOU_THRESHOLDS])

#: Score thresholds to choose from.
_SCORES = np.arange(1, 100) / 100


@dataclass(frozen=True)
class Counts:
    """Of I images, in ascending order of id, at IoUs above 0.5 and from each of T thresholds."""

    true_positive: np.ndarray  #: I×(1 + T) int
    false_positive: np.ndarray  #: I×(1 + T) int
    false_negative: np.ndarray  #: I×(1 + T) int
    iou: np.ndarray  #: I float, sum of the IoUs that are above 0.5

    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Metrics for B weightings of the images.

        Args:
            weights: B×I int, copies of each image.

        Returns:
            ``dsb_AP``, ``dsb_AP50``, ``dsb_AP75``, ``dsb_AP90`` and ``PQ``, B values in percent
            each; NaN where there is neither an object nor a detection.
        """
        right, wrong, missed = (
            weights @ counts
            for counts in (self.true_positive, self.false_positive, self.false_negative)
        )
        with np.errstate(invalid="ignore"):
            accuracy = (right / (right + wrong + missed))[:, 1:]
            quality = weights @ self.iou / (right + (wrong + missed) / 2)[:, 0]
        values = {
            "dsb_AP": accuracy.mean(axis=1),
            "dsb_AP50": accuracy[:, 0],
            "dsb_AP75": accuracy[:, 5],
            "dsb_AP90": accuracy[:, 8],
            "PQ": quality,
        }
        return {name: 100 * value for name, value in values.items()}


def count_matches(
    predictions: list[Prediction], annotations: Annotations, *, threshold: float
) -> Counts:
    """Count right, wrong and missed objects.

    Args:
        predictions: COCO results.
        annotations: COCO annotation file, or its content.
        threshold: detections with at least this score count.

    Raises:
        EvaluationError: predictions or annotations are not valid, or do not belong together.
    """
    truth, chosen = load_pair(predictions, annotations)
    return _count(list(_overlaps(truth, chosen)), len(truth.imgs), threshold)


def resample_counts(
    predictions: list[Prediction],
    annotations: Annotations,
    *,
    threshold: float,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Metrics of :class:`Counts` on the images as they are and on each resample of them.

    Resample i has the same images as in :func:`~b2inst.evaluation.bootstrap.resample_ap`.

    Args:
        predictions, annotations, threshold: as :func:`count_matches`.
        resamples: how often the images are drawn.
        seed: of the draws.

    Returns:
        For each metric ``resamples + 1`` values in percent, the first on the images as they are.

    Raises:
        EvaluationError: predictions or annotations are not valid, or do not belong together.
    """
    counts = count_matches(predictions, annotations, threshold=threshold)
    weights = draw_weights(len(counts.iou), resamples=resamples, seed=seed)
    return counts.resampled(np.concatenate([np.ones_like(weights[:1]), weights]))


def best_threshold(predictions: list[Prediction], annotations: Annotations) -> float:
    """The score threshold with the highest DSB AP, of 0.01, 0.02, … 0.99; of equals the lowest.

    Args:
        predictions: COCO results on images that are not reported on.
        annotations: COCO annotation file, or its content.

    Raises:
        EvaluationError: predictions or annotations are not valid, do not belong together, or there
            is no object.
    """
    truth, chosen = load_pair(predictions, annotations)
    if all(found["iscrowd"] for found in truth.dataset["annotations"]):
        raise EvaluationError("no object to choose a score threshold by; give images with some")
    overlaps, once = list(_overlaps(truth, chosen)), np.ones((1, len(truth.imgs)), dtype=np.int64)
    values = [
        _count(overlaps, len(truth.imgs), score).resampled(once)["dsb_AP"].item()
        for score in _SCORES
    ]
    return float(_SCORES[np.argmax(values)])


@dataclass(frozen=True)
class _Overlap:
    """N detections and M objects of an image and category."""

    image: int  #: position of the image
    scores: np.ndarray  #: N
    crowded: np.ndarray  #: N bool, most of it is in crowds
    ious: np.ndarray  #: N×M


def _overlaps(truth: COCO, predictions: list[Prediction]) -> Iterator[_Overlap]:
    """What is counted from, at any score threshold: a pixel is never lost to a lower score."""
    by_image = defaultdict(list)
    for record in predictions:
        by_image[record["image_id"]].append(record)
    for position, (image_id, image) in enumerate(sorted(truth.imgs.items())):
        size = (image["height"], image["width"])
        ranked = sorted(by_image[image_id], key=lambda record: -record["score"])
        labels = np.full(size, len(ranked), dtype=np.int32)  # places in the ranking; last: nothing
        for place in reversed(range(len(ranked))):
            window, mask = cut_out(to_rle(ranked[place]["segmentation"], *size))
            labels[window][mask] = place
        areas = np.bincount(labels.ravel(), minlength=len(ranked) + 1)[:-1]
        scores = np.array([record["score"] for record in ranked], dtype=np.float64)
        classes = np.array([record["category_id"] for record in ranked], dtype=object)
        annotations = truth.imgToAnns[image_id]
        for category in {*classes, *(found["category_id"] for found in annotations)}:
            kept = (classes == category) & (areas > 0)
            ious, in_crowds = [np.zeros((0, len(ranked)))], np.zeros(size, dtype=bool)
            for found in annotations:
                if found["category_id"] != category:
                    continue
                window, mask = cut_out(to_rle(found["segmentation"], *size))
                if found["iscrowd"]:
                    in_crowds[window] |= mask
                    continue
                shared = np.bincount(labels[window][mask], minlength=len(ranked) + 1)[:-1]
                ious.append((shared / (areas + mask.sum() - shared))[None])
            inside = np.bincount(labels[in_crowds], minlength=len(ranked) + 1)[:-1]
            yield _Overlap(
                image=position,
                scores=scores[kept],
                crowded=(2 * inside > areas)[kept],
                ious=np.concatenate(ious)[:, kept].T,
            )


def _count(overlaps: list[_Overlap], images: int, threshold: float) -> Counts:
    right, wrong, missed = np.zeros((3, images, len(_THRESHOLDS)), dtype=np.int64)
    iou = np.zeros(images)
    for one in overlaps:
        kept = one.scores >= threshold
        matched = _match(one.ious[kept])
        pairs = np.count_nonzero(matched, axis=1)
        right[one.image] += pairs
        wrong[one.image] += np.count_nonzero((matched == 0) & ~one.crowded[kept], axis=1)
        missed[one.image] += one.ious.shape[1] - pairs
        iou[one.image] += matched[0].sum()
    return Counts(true_positive=right, false_positive=wrong, false_negative=missed, iou=iou)


def _match(ious: np.ndarray) -> np.ndarray:
    """IoU of each of N detections with its object at each threshold; 0 where it has none."""
    near = ious >= 0.5
    if (near.sum(axis=0) < 2).all() and (near.sum(axis=1) < 2).all():  # as of masks that are apart
        best = ious.max(axis=1, initial=0)
        return np.where(best >= _THRESHOLDS[:, None], best, 0)
    matched = np.zeros((len(_THRESHOLDS), len(ious)))
    for own, threshold in zip(matched, _THRESHOLDS, strict=True):
        # A pair more outweighs all IoUs, which add up to at most one a detection.
        value = np.where(ious >= threshold, 1 + len(ious) + ious, 0)
        rows, columns = linear_sum_assignment(value, maximize=True)
        own[rows] = np.where(value[rows, columns] > 0, ious[rows, columns], 0)
    return matched
