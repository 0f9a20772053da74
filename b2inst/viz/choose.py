"""Which images to show when two models are compared: by a rule, not by hand."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from tqdm import tqdm

from b2inst.data import CocoIndex, ImageRecord
from b2inst.data.segmentation import to_rle
from b2inst.evaluation import Prediction
from b2inst.ops.masks import decode_rle
from b2inst.ops.quality import boundary_dice, mask_iou

_FOUND = 0.5  # mask IoU with an object, from which it counts as found
_SAME = 0.5  # mask IoU of two instances, from which they are taken for the same


@dataclass(frozen=True)
class Choice:
    """An image for the figure, and why it is in it."""

    image_id: int
    reason: str
    gain: float | None  #: how much better the second model is on it, as measured; None: not


def choose_images(
    index: CocoIndex,
    first: Sequence[Prediction],
    second: Sequence[Prediction],
    *,
    best: int = 2,
    drawn: int = 1,
    seed: int = 0,
    candidates: int = 500,
    score_threshold: float = 0.4,
    progress: bool = False,
) -> list[Choice]:
    """The images with the largest gain of the second model, and some drawn at random.

    An image's gain is the mean, over the objects that both models find (same class, mask IoU at
    least 0.5), of the difference in √(mask IoU · boundary Dice), the quality that Eq. 2 predicts.
    Where too few images have such an object, others are drawn.

    Args:
        first, second: predictions for the images of ``index``.
        best: how many images of largest gain.
        drawn: how many images drawn from the others, whatever their gain.
        seed: of the draw.
        candidates: of more images than this, so many are looked at, drawn by ``seed``.
        score_threshold: of what is shown (see ``shown``); what is not does not count here.
    """
    records = list(index.images)
    if len(records) > candidates:
        records = random.Random(seed).sample(records, candidates)
    grouped = [by_image(predictions) for predictions in (first, second)]
    gains: dict[int, float] = {}
    for record in tqdm(records, desc="choose images", unit="image", disable=not progress):
        a, b = (
            object_quality(index, record, shown(found[record.id], score_threshold))
            for found in grouped
        )
        both = ~(a.isnan() | b.isnan())
        if both.any():
            gains[record.id] = float((b - a)[both].mean())
    return pick(gains, (record.id for record in records), best=best, drawn=drawn, seed=seed)


def pick(
    gains: Mapping[int, float],
    images: Iterable[int],
    *,
    best: int = 0,
    worst: int = 0,
    drawn: int = 0,
    seed: int = 0,
) -> list[Choice]:
    """Images of largest gain, of largest loss, and some drawn at random from the others.

    Args:
        gains: of the images where it is known. Of equal ones the first goes first.
        images: ids of all images. Those without a gain are drawn where the others do not suffice.
        best, worst, drawn: how many by gain, by loss and at random; in this order they come back.
        seed: of the draw.
    """
    ranked = sorted(gains, key=lambda image_id: -gains[image_id])
    last = ranked[best:][::-1][:worst]
    chosen = [Choice(image_id, "largest gain", gains[image_id]) for image_id in ranked[:best]]
    chosen += [
        Choice(image_id, "largest loss" if gains[image_id] < 0 else "least gain", gains[image_id])
        for image_id in last
    ]
    rest = sorted(set(ranked[best:]) - set(last)) or sorted(i for i in images if i not in gains)
    count = min(best + worst + drawn - len(chosen), len(rest))
    return chosen + [
        Choice(image_id, f"drawn by seed {seed}", gains.get(image_id))
        for image_id in random.Random(seed).sample(rest, count)
    ]


def object_quality(
    index: CocoIndex, record: ImageRecord, predictions: Sequence[Prediction]
) -> Tensor:
    """√(mask IoU · boundary Dice) of the best prediction for each object of an image.

    Returns:
        N float, one for each object that is no crowd; NaN where none of its class has a mask IoU
        of at least 0.5.
    """
    quality = []
    for pair in pairs(index, record, predictions):
        if pair.found is None:
            quality.append(torch.nan)
            continue
        masks = decode_rle([pair.found, pair.truth])
        iou, dice = mask_iou(masks[0], masks[1]), boundary_dice(masks[0], masks[1])
        quality.append(float((iou * dice).sqrt()))
    return torch.tensor(quality)


@dataclass(frozen=True)
class Pair:
    """An object and the mask that was found for it, as run-length codes."""

    truth: dict[str, Any]
    found: dict[str, Any] | None  #: None: nothing of its class overlaps it by half


def pairs(index: CocoIndex, record: ImageRecord, predictions: Sequence[Prediction]) -> list[Pair]:
    """The objects of an image that are no crowds, each with the best prediction for it.

    That is the one of its class with the largest mask IoU, where this is at least 0.5.
    """
    objects = [a for a in index.annotations[record.id] if not a.crowd]
    truths = [to_rle(a.segmentation, record.height, record.width) for a in objects]
    if not objects or not predictions:
        return [Pair(truth, None) for truth in truths]
    codes = [p["segmentation"] for p in predictions]
    overlap = coco_mask.iou(codes, truths, [0] * len(truths))
    classes = np.array([p["category_id"] for p in predictions])
    result = []
    for i, (annotation, truth) in enumerate(zip(objects, truths, strict=True)):
        same = classes == index.category_ids[annotation.label]
        candidates = np.where(same, overlap[:, i], 0.0)
        best = int(candidates.argmax())
        result.append(Pair(truth, codes[best] if candidates[best] >= _FOUND else None))
    return result


def shown(predictions: Sequence[Prediction], score_threshold: float) -> list[Prediction]:
    """What a figure shows of an image: no weak instances, and one only where several lie.

    Of instances that cover each other (mask IoU of at least 0.5, whatever their class) the
    best-ranked is shown.

    Args:
        predictions: of one image.
        score_threshold: least class score. It is the class score for all models, since the
            ranking scores of Eq. 2 are lower where qualities are predicted.

    Returns:
        The best-ranked first.
    """
    strong = [p for p in predictions if p["class_score"] >= score_threshold]
    ranked = sorted(strong, key=lambda p: -p["score"])
    codes = [p["segmentation"] for p in ranked]
    overlap = coco_mask.iou(codes, codes, [0] * len(codes)) if codes else np.zeros((0, 0))
    kept: list[int] = []
    for i in range(len(ranked)):
        if not kept or overlap[i, kept].max() < _SAME:
            kept.append(i)
    return [ranked[i] for i in kept]


def by_image(predictions: Sequence[Prediction]) -> defaultdict[int, list[Prediction]]:
    """Predictions by image id; images without any have an empty list."""
    found: defaultdict[int, list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        found[prediction["image_id"]].append(prediction)
    return found
