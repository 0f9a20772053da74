"""Which detection matches which annotation, image by image: what AP is computed from.

COCO's matching looks at one image and category at a time, so a resampled data set needs no new
matching: only the weights of the images change (see ``bootstrap``). The IoUs come from the
evaluator; the greedy assignment of COCO is repeated here because the evaluator does not show its
own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

#: IoU thresholds of COCO's AP, T = 10; AP50 is the first, AP75 the sixth.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)

#: IoUs of detections (in descending order of score) × annotations, by image and category.
Overlaps = Mapping[tuple[int, int], Any]

_ALL_AREAS = (0.0, 1e5**2)


@dataclass(frozen=True)
class CategoryMatches:
    """Matches of one category on I images; its N detections in descending order of score."""

    image: np.ndarray  #: N int, position of each detection's image
    true_positive: np.ndarray  #: T×N bool, matched at this IoU threshold and counted
    ignored: np.ndarray  #: T×N bool, neither true nor false (crowd, or outside the area range)
    positives: np.ndarray  #: I int, annotations to be found in each image


def match(
    evaluator: COCOeval_faster,
    *,
    overlaps: Overlaps | None = None,
    area: tuple[float, float] = _ALL_AREAS,
) -> list[CategoryMatches]:
    """Match detections to annotations of an area range, by COCO's rules.

    Args:
        evaluator: of ``average_precision.run_evaluator``; its limit of detections holds here.
        overlaps: matched by these (default: the evaluator's own).
        area: lowest and highest area in pixels²; what is outside is ignored.

    Returns:
        The categories that have annotations in the range. Images are in ascending order of id.
    """
    truth, predicted = evaluator.cocoGt, evaluator.cocoDt
    ious = evaluator.ious if overlaps is None else overlaps
    annotations = _by_category_and_image(truth)
    detections = _by_category_and_image(predicted)
    positions = {image_id: i for i, image_id in enumerate(sorted(truth.imgs))}
    categories = []
    for category_id in sorted(annotations):
        positives = np.zeros(len(positions), dtype=np.int64)
        for image_id, found in annotations[category_id].items():
            positives[positions[image_id]] = np.count_nonzero(~_outside(found, area, crowds=True))
        if not positives.any():
            continue
        parts = [
            _match_image(
                annotations[category_id].get(image_id, []),
                candidates,
                ious[image_id, category_id],
                area,
                evaluator.params.maxDets[-1],
            )
            for image_id, candidates in sorted(detections[category_id].items())
        ]
        images = [positions[image_id] for image_id in sorted(detections[category_id])]
        categories.append(_merge(parts, images, positives))
    return categories


def _match_image(
    annotations: list[dict[str, Any]],
    detections: list[dict[str, Any]],
    ious: Any,
    area: tuple[float, float],
    max_detections: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (N), true positives (T×N) and ignored (T×N) of one image and category."""
    detections = sorted(detections, key=lambda d: -d["score"])[:max_detections]
    count, steps = len(detections), len(IOU_THRESHOLDS)
    true_positive = np.zeros((steps, count), dtype=bool)
    ignored = np.repeat(_outside(detections, area)[None], steps, axis=0)
    if annotations and detections:
        overlap = np.asarray(ious, dtype=np.float64).reshape(count, len(annotations))
        crowd = np.array([bool(found["iscrowd"]) for found in annotations])
        ignore = _outside(annotations, area, crowds=True)
        taken = np.zeros((steps, len(annotations)), dtype=bool)
        # Most detections overlap nothing by half: they can match nowhere.
        for i in np.flatnonzero(overlap.max(axis=1) >= IOU_THRESHOLDS[0]):
            free = (overlap[i] >= IOU_THRESHOLDS[:, None]) & (~taken | crowd)
            # An annotation that counts goes before one to be ignored, however well that one fits.
            counted = free & ~ignore
            choice = np.where(counted.any(axis=1)[:, None], counted, free)
            matched = choice.any(axis=1)
            best = _last_argmax(np.where(choice, overlap[i], -1.0))
            taken[matched, best[matched]] = True
            ignored[matched, i] = ignore[best[matched]]
            true_positive[matched, i] = ~ignore[best[matched]]
    scores = np.array([detection["score"] for detection in detections], dtype=np.float64)
    return scores, true_positive, ignored


def _merge(
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    images: list[int],
    positives: np.ndarray,
) -> CategoryMatches:
    """Put the images of a category together, in descending order of score (ties: by image)."""
    empty = np.zeros((len(IOU_THRESHOLDS), 0), dtype=bool)
    scores = np.concatenate([np.zeros(0), *(part[0] for part in parts)])
    true_positive = np.concatenate([empty, *(part[1] for part in parts)], axis=1)
    ignored = np.concatenate([empty, *(part[2] for part in parts)], axis=1)
    image = np.repeat(np.array(images, dtype=np.int64), [len(part[0]) for part in parts])
    order = np.argsort(-scores, kind="stable")
    order = order[~ignored[:, order].all(axis=0)]  # what never counts need not be carried
    return CategoryMatches(
        image=image[order],
        true_positive=true_positive[:, order],
        ignored=ignored[:, order],
        positives=positives,
    )


def _outside(
    annotations: Iterable[dict[str, Any]], area: tuple[float, float], *, crowds: bool = False
) -> np.ndarray:
    """Which annotations do not count: area out of range, or (with ``crowds``) a crowd."""
    return np.array(
        [
            not area[0] <= a["area"] <= area[1] or (crowds and bool(a["iscrowd"]))
            for a in annotations
        ],
        dtype=bool,
    )


def _last_argmax(values: np.ndarray) -> np.ndarray:
    """Index of the greatest value of each row, the last of equals (COCO's tie rule)."""
    return values.shape[1] - 1 - np.argmax(values[:, ::-1], axis=1)


def _by_category_and_image(coco: COCO) -> dict[int, dict[int, list[dict[str, Any]]]]:
    groups: dict[int, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for annotation in coco.dataset["annotations"]:
        groups[annotation["category_id"]][annotation["image_id"]].append(annotation)
    return groups
