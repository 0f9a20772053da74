"""Which images and objects to show when two models are compared: by a rule, not by hand."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from b2inst.data import Annotation, CocoIndex, ImageRecord
from b2inst.evaluation import Prediction
from b2inst.ops.masks import decode_rle
from b2inst.ops.quality import boundary_dice, mask_iou

#: Predictions by image id.
ImagePredictions = Mapping[int, Sequence[Prediction]]

_IOU = 0.5  # of a mask with an object that it detects, or with a duplicate
_CLASS_SCORE = 0.4  # of instances that are visible
_SEED = 0


@dataclass(frozen=True)
class Choice:
    """An image or object that was chosen, and why."""

    id: int
    reason: str
    gain: float | None  #: how much better the second model is on it, if measured

    @property
    def label(self) -> str:
        """Reason and gain, for a figure."""
        return self.reason if self.gain is None else f"{self.reason}\ngain {self.gain:+.2f}"


def choose(
    gains: Mapping[int, float],
    ids: Iterable[int],
    *,
    best: int = 0,
    worst: int = 0,
    at_random: int = 0,
) -> list[Choice]:
    """Choose by largest gain, by largest loss, and at random from the others.

    Args:
        gains: Gains by id, where known; the first of equal ones is chosen first.
        ids: All ids. Those without a gain are chosen at random where the others do not suffice.
        best: Number of largest gains, which come first.
        worst: Number of largest losses, which come next.
        at_random: Number of random choices, which come last.
    """
    ranked = sorted(gains, key=lambda i: -gains[i])
    top, bottom = ranked[:best], ranked[best:][::-1][:worst]
    chosen = [Choice(i, "largest gain", gains[i]) for i in top]
    for i in bottom:
        chosen.append(Choice(i, "largest loss" if gains[i] < 0 else "smallest gain", gains[i]))
    rest = sorted(set(gains) - {*top, *bottom}) or sorted(set(ids) - set(gains))
    count = min(best + worst + at_random - len(chosen), len(rest))
    drawn = random.Random(_SEED).sample(rest, count)
    return chosen + [Choice(i, f"random, seed {_SEED}", gains.get(i)) for i in drawn]


def image_gains(
    index: CocoIndex, first: ImagePredictions, second: ImagePredictions
) -> dict[int, float]:
    """Average :func:`object_gains` over the objects of each image that both models find."""
    gains = object_gains(index, first, second)
    each = {
        record.id: [gains[a.id] for a in index.annotations[record.id] if a.id in gains]
        for record in index.images
    }
    return {i: sum(own) / len(own) for i, own in each.items() if own}


def object_gains(
    index: CocoIndex, first: ImagePredictions, second: ImagePredictions
) -> dict[int, float]:
    """Compute the second model's gain in √(mask IoU · boundary Dice), which Eq. 2 predicts.

    Returns:
        Gains by annotation id, -1 to 1, of the objects that both models find.
    """
    gains = {}
    for record in index.images:
        matches, others = (detections(index, record, of[record.id]) for of in (first, second))
        for (annotation, mask), (_, other) in zip(matches, others, strict=True):
            if mask is not None and other is not None:
                *masks, truth = decode_rle([mask, other, annotation.rle])
                before, after = (
                    (mask_iou(m, truth) * boundary_dice(m, truth)).sqrt() for m in masks
                )
                gains[annotation.id] = float(after) - float(before)
    return gains


def detections(
    index: CocoIndex, record: ImageRecord, predictions: Sequence[Prediction]
) -> list[tuple[Annotation, dict[str, Any] | None]]:
    """Match each object of an image with the mask of its class that overlaps it most.

    Returns:
        Objects that are not crowds, and the predicted masks as run-length codes; None where no
        mask of the object's class has an IoU of at least 0.5.
    """
    objects = [a for a in index.annotations[record.id] if not a.crowd]
    if not objects or not predictions:
        return [(a, None) for a in objects]
    codes = [p["segmentation"] for p in predictions]
    overlap = coco_mask.iou(codes, [a.rle for a in objects], [0] * len(objects))
    classes = np.array([p["category_id"] for p in predictions])
    wanted = np.array([index.category_ids[a.label] for a in objects])
    overlap = np.where(classes[:, None] == wanted, overlap, 0)
    pairs = zip(objects, overlap.argmax(0), overlap.max(0), strict=True)
    return [(annotation, codes[i] if iou >= _IOU else None) for annotation, i, iou in pairs]


def visible(predictions: Iterable[Prediction], index: CocoIndex) -> dict[int, list[Prediction]]:
    """Select what figures show: no weak instances and no duplicates.

    The threshold, 0.4, is of the class score: the ranking scores of Eq. 2 cannot be compared
    between models, since they are lower where qualities are predicted.

    Returns:
        Predictions of each image of ``index``, best-ranked first. Of instances whose masks have an
        IoU of at least 0.5, whatever their class, only the best-ranked is kept.
    """
    shown: dict[int, list[Prediction]] = {record.id: [] for record in index.images}
    for prediction in sorted(predictions, key=lambda p: -p["score"]):
        kept = shown.get(prediction["image_id"])
        if kept is not None and prediction["class_score"] >= _CLASS_SCORE:
            codes = [p["segmentation"] for p in kept]
            overlap = coco_mask.iou([prediction["segmentation"]], codes, [0] * len(codes))
            if not len(codes) or overlap.max() < _IOU:
                kept.append(prediction)
    return shown


def candidates(index: CocoIndex, *, count: int = 500) -> CocoIndex:
    """Draw at most ``count`` images to choose from."""
    ids = [record.id for record in index.images]
    return index if len(ids) <= count else index.subset(random.Random(_SEED).sample(ids, count))
