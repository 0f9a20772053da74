"""Boundary IoUs of the detections that can match at all.

Boundary AP goes by the smaller of mask IoU and boundary IoU, so what overlaps no annotation by half
as a mask matches nothing as a boundary either. Most detections are such, and taking a mask's
boundary is by far the dearest step of the evaluation: the evaluator takes all of them on the whole
image. Here they are taken where they count, with equal results (tested).
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import cv2
import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from pycocotools import mask as coco_mask

from b2inst.data.segmentation import to_rle
from b2inst.evaluation.cut_outs import CutOut, common_pixels, cut_out
from b2inst.evaluation.errors import EvaluationError
from b2inst.evaluation.ground_truth import Annotations, load_ground_truth
from b2inst.evaluation.matches import IOU_THRESHOLDS, Overlaps


def boundary_overlaps(
    masks: COCOeval_faster,
    *,
    boundary_dilation: float = 0.02,
    boundary_pixels: int | None = None,
) -> Overlaps:
    """What boundary AP matches by, for :func:`~b2inst.evaluation.matches.match`.

    Args:
        masks: the evaluator of the masks, after its run.
        boundary_dilation, boundary_pixels: as ``evaluate``.

    Returns:
        By image and category, detections × annotations: the smaller of the two IoUs where the mask
        IoU is at least 0.5, else the mask IoU, which matches nothing. Of a crowd it is the mask
        IoU, as in the evaluator.
    """
    detections, annotations = _by_pair(masks.cocoDt), _by_pair(masks.cocoGt)
    overlaps = {}
    for pair, found in masks.ious.items():
        overlaps[pair] = overlap = np.array(found)
        if not overlap.size:
            continue
        crowd = np.array([bool(a["iscrowd"]) for a in annotations[pair]])
        matches = np.argwhere((overlap >= IOU_THRESHOLDS[0]) & ~crowd)
        if not len(matches):
            continue
        image = masks.cocoGt.imgs[pair[0]]
        size = (image["height"], image["width"])
        ranked = sorted(detections[pair], key=lambda d: -d["score"])
        chosen = [(ranked[row], annotations[pair][column]) for row, column in matches]
        codes = {id(one): to_rle(one["segmentation"], *size) for both in chosen for one in both}
        width = boundary_width(*size, dilation=boundary_dilation, pixels=boundary_pixels)
        boundaries = {key: inner_boundary(code, width=width) for key, code in codes.items()}
        for (row, column), (one, other) in zip(matches, chosen, strict=True):
            a, b = boundaries[id(one)], boundaries[id(other)]
            common = common_pixels(a, b)
            iou = common / (np.count_nonzero(a.mask) + np.count_nonzero(b.mask) - common)
            overlap[row, column] = min(overlap[row, column], iou)
    return overlaps


def swallowed_share(
    annotations: Annotations,
    *,
    boundary_dilation: float = 0.02,
    boundary_pixels: int | None = None,
) -> float:
    """The share of objects whose boundary is the whole mask, in [0, 1]; crowds are no objects.

    Where both masks are such, boundary IoU is mask IoU and boundary AP tells nothing of its own.

    Args:
        annotations: COCO annotation file, or its content.
        boundary_dilation, boundary_pixels: as ``evaluate``.

    Raises:
        EvaluationError: the annotations are not valid.
    """
    truth = load_ground_truth(annotations)
    objects = [found for found in truth.dataset["annotations"] if not found["iscrowd"]]
    swallowed = 0
    for found in objects:
        image = truth.imgs[found["image_id"]]
        size = (image["height"], image["width"])
        width = boundary_width(*size, dilation=boundary_dilation, pixels=boundary_pixels)
        code = to_rle(found["segmentation"], *size)
        boundary = inner_boundary(code, width=width).mask
        swallowed += int(np.count_nonzero(boundary) == coco_mask.area(code))
    return swallowed / max(len(objects), 1)


def boundary_width(
    height: int, width: int, *, dilation: float = 0.02, pixels: int | None = None
) -> int:
    """Width of the boundary of a mask in pixels, rounded as its authors' code does.

    Python's ``round`` takes halves to the even neighbour: 3.5 and 4.5 are both 4.

    Args:
        height, width: of the image, in pixels.
        dilation: fraction of the image diagonal.
        pixels: the width itself instead.

    Raises:
        EvaluationError: ``pixels`` is below 1.
    """
    if pixels is not None:
        if pixels < 1:
            raise EvaluationError(f"boundary_pixels is {pixels}; give at least 1")
        return pixels
    return max(1, round(dilation * math.hypot(height, width)))


def inner_boundary(code: dict[str, Any], *, width: int) -> CutOut:
    """The part of a mask within ``width`` pixels of its contour (Cheng et al. 2021).

    The frame of the image is a contour, too: what it cuts has its boundary there.

    Args:
        code: run-length code of the mask.
    """
    window, mask = cut_out(code)
    kernel = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    core = cv2.erode(
        mask.view(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0
    ).astype(bool)
    return CutOut(window, mask & ~core)


def _by_pair(coco: COCO) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """Annotations by image and category, in the file's order."""
    groups: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for annotation in coco.dataset["annotations"]:
        groups[annotation["image_id"], annotation["category_id"]].append(annotation)
    return groups
