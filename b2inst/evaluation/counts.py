"""Metrics of label images, common in microscopy, computed from matched and unmatched objects.

Detections above a score threshold become a label image, and are matched with the objects of their
class one to one: as many pairs as possible at an IoU threshold, then those of the largest IoUs.
docs/evaluation.md defines the metrics: DSB AP, and PQ, which counts IoUs above 0.5.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from faster_coco_eval import COCO

from b2inst.evaluation.average_precision import load_checked
from b2inst.evaluation.bootstrap import draw_weights
from b2inst.evaluation.ground_truth import Annotations, code_of, decode_window
from b2inst.evaluation.matches import IOU_THRESHOLDS
from b2inst.evaluation.predictions import EvaluationError, Prediction

#: The first is PQ's, above 0.5; those of DSB AP follow.
_THRESHOLDS = np.array([np.nextafter(0.5, 1), *IOU_THRESHOLDS])


@dataclass(frozen=True)
class Counts:
    """Counts of I images in ascending order of id, at IoUs above 0.5 and at T thresholds."""

    true_positive: np.ndarray  #: I×(1 + T) int
    false_positive: np.ndarray  #: I×(1 + T) int
    false_negative: np.ndarray  #: I×(1 + T) int
    iou: np.ndarray  #: I float, sum of the IoUs above 0.5

    def resampled(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Compute ``dsb_AP``, ``dsb_AP50``, ``dsb_AP75``, ``dsb_AP90`` and ``PQ`` in percent.

        B values each for B×I numbers of copies of the images; NaN without objects and detections.
        """
        right = weights @ self.true_positive
        wrong = weights @ (self.false_positive + self.false_negative)
        with np.errstate(invalid="ignore"):
            accuracy = (right / (right + wrong))[:, 1:]
            quality = weights @ self.iou / (right + wrong / 2)[:, 0]
        values = {"dsb_AP": accuracy.mean(axis=1)}
        values |= {f"dsb_AP{50 + 5 * i}": accuracy[:, i] for i in (0, 5, 8)}
        return {name: 100 * value for name, value in {**values, "PQ": quality}.items()}


def count_matches(
    predictions: list[Prediction], annotations: Annotations, *, threshold: float
) -> Counts:
    """Count matched and unmatched objects, and detections with scores from ``threshold`` on."""
    truth = load_checked(predictions, annotations)
    return _count(_overlaps(truth, predictions), len(truth.imgs), threshold)


def resample_counts(
    predictions: list[Prediction],
    annotations: Annotations,
    *,
    threshold: float,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Compute the metrics of :class:`Counts` on the original images and on bootstrap resamples.

    Arguments, images and results are those of ``resample_ap``; ``threshold`` is the lowest score of
    the detections that count.
    """
    counts = count_matches(predictions, annotations, threshold=threshold)
    return counts.resampled(draw_weights(len(counts.iou), resamples=resamples, seed=seed))


def best_threshold(predictions: list[Prediction], annotations: Annotations) -> float:
    """Choose the score threshold with the highest DSB AP of 0.01, 0.02, … 0.99, the lowest if tied.

    Use other images than those that are reported.
    """
    truth = load_checked(predictions, annotations)
    if all(a["iscrowd"] for a in truth.dataset["annotations"]):
        raise EvaluationError("no object to choose a score threshold by; give images with some")
    overlaps, images = list(_overlaps(truth, predictions)), len(truth.imgs)
    once = np.ones((1, images), dtype=np.int64)
    scores = np.arange(1, 100) / 100
    counts = (_count(overlaps, images, score) for score in scores)
    return float(scores[np.argmax([c.resampled(once)["dsb_AP"] for c in counts])])


class _Overlap(NamedTuple):
    """N detections and M objects of an image and category."""

    image: int  #: position of the image
    scores: np.ndarray  #: N
    crowded: np.ndarray  #: N bool, more than half of it is in crowds
    ious: np.ndarray  #: N×M


def _overlaps(truth: COCO, predictions: list[Prediction]) -> Iterator[_Overlap]:
    """Overlaps in the label images, at any score threshold: no pixel is lost to a lower score."""
    by_image = defaultdict(list)
    for record in sorted(predictions, key=lambda record: -record["score"]):
        by_image[record["image_id"]].append(record)
    for position, (image_id, image) in enumerate(sorted(truth.imgs.items())):
        ranked, annotations = by_image[image_id], truth.imgToAnns[image_id]
        labels = np.full((image["height"], image["width"]), len(ranked))  # rank; last: background
        for place in reversed(range(len(ranked))):
            window, mask = decode_window(code_of(ranked[place], image))
            labels[window][mask] = place

        def pixels(found: np.ndarray, count: int = len(ranked)) -> np.ndarray:
            return np.bincount(found.ravel(), minlength=count + 1)[:-1]

        areas = pixels(labels)
        scores = np.array([record["score"] for record in ranked], dtype=np.float64)
        classes = np.array([record["category_id"] for record in ranked], dtype=object)
        for category in {*classes, *(a["category_id"] for a in annotations)}:
            ious, in_crowds = [np.zeros((0, len(ranked)))], np.zeros(labels.shape, dtype=bool)
            for found in (a for a in annotations if a["category_id"] == category):
                window, mask = decode_window(code_of(found, image))
                if found["iscrowd"]:
                    in_crowds[window] |= mask
                else:
                    shared = pixels(labels[window][mask])
                    ious.append((shared / (areas + mask.sum() - shared))[None])
            kept = (classes == category) & (areas > 0)
            crowded = 2 * pixels(labels[in_crowds]) > areas
            yield _Overlap(position, scores[kept], crowded[kept], np.concatenate(ious)[:, kept].T)


def _count(overlaps: Iterable[_Overlap], images: int, threshold: float) -> Counts:
    right, wrong, missed = np.zeros((3, images, len(_THRESHOLDS)), dtype=np.int64)
    iou = np.zeros(images)
    for image, scores, crowded, ious in overlaps:
        kept = scores >= threshold
        matched = _match(ious[kept])
        pairs = np.count_nonzero(matched, axis=1)
        right[image] += pairs
        wrong[image] += np.count_nonzero((matched == 0) & ~crowded[kept], axis=1)
        missed[image] += ious.shape[1] - pairs
        iou[image] += matched[0].sum()
    return Counts(true_positive=right, false_positive=wrong, false_negative=missed, iou=iou)


def _match(ious: np.ndarray) -> np.ndarray:
    """IoU of each of N detections with its object at each threshold; 0 if unmatched."""
    near = ious >= 0.5
    if (near.sum(axis=0) < 2).all() and (near.sum(axis=1) < 2).all():  # no choice: masks are apart
        best = ious.max(axis=1, initial=0)
        return np.where(best >= _THRESHOLDS[:, None], best, 0)
    from scipy.optimize import linear_sum_assignment  # slow to import

    matched = np.zeros((len(_THRESHOLDS), len(ious)))
    for own, threshold in zip(matched, _THRESHOLDS, strict=True):
        # One more pair outweighs all IoUs, which add up to at most one per detection.
        value = np.where(ious >= threshold, 1 + len(ious) + ious, 0)
        rows, columns = linear_sum_assignment(value, maximize=True)
        own[rows] = np.where(value[rows, columns] > 0, ious[rows, columns], 0)
    return matched
