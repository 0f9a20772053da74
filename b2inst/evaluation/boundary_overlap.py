"""Boundary IoUs of the detections that can match at all.

Boundary AP goes by the smaller of mask IoU and boundary IoU, so what overlaps no annotation by half
as a mask matches nothing as a boundary either. Most detections are such, and taking a mask's
boundary is by far the dearest step of the evaluation.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from faster_coco_eval import COCOeval_faster

from b2inst.evaluation.average_precision import run_evaluator
from b2inst.evaluation.matches import IOU_THRESHOLDS, Overlaps
from b2inst.evaluation.predictions import Prediction


def boundary_overlaps(
    masks: COCOeval_faster, predictions: list[Prediction], *, boundary_dilation: float = 0.02
) -> Overlaps:
    """What boundary AP matches by, for :func:`~b2inst.evaluation.matches.match`.

    Args:
        masks: the evaluator of the masks of ``predictions``, after its run.
        predictions: those that were given to it, in that order.
        boundary_dilation: as ``evaluate``.

    Returns:
        By image and category, detections × annotations: the smaller of the two IoUs where the mask
        IoU is at least 0.5 with any annotation, else the mask IoU, which matches nothing.
    """
    # Ids are the places in the list of predictions, from 1 on.
    places: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for detection in masks.cocoDt.dataset["annotations"]:
        places[detection["image_id"], detection["category_id"]].append(detection)
    rows: dict[tuple[int, int], np.ndarray] = {}
    chosen: list[Prediction] = []
    for pair, overlap in masks.ious.items():
        if len(overlap):
            rows[pair] = np.flatnonzero(np.max(overlap, axis=1) >= IOU_THRESHOLDS[0])
            ranked = sorted(places[pair], key=lambda d: -d["score"])
            chosen += [predictions[ranked[row]["id"] - 1] for row in rows[pair]]
    boundaries = run_evaluator(
        masks.cocoGt, chosen, kind="boundary", boundary_dilation=boundary_dilation
    )
    overlaps = {}
    for pair, overlap in masks.ious.items():
        overlaps[pair] = np.array(overlap)
        if pair in rows and len(rows[pair]):
            overlaps[pair][rows[pair]] = boundaries.ious[pair]
    return overlaps
