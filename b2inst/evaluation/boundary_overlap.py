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
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from b2inst.data.segmentation import to_rle
from b2inst.evaluation.matches import IOU_THRESHOLDS, Overlaps


def boundary_overlaps(masks: COCOeval_faster, *, boundary_dilation: float = 0.02) -> Overlaps:
    """What boundary AP matches by, for :func:`~b2inst.evaluation.matches.match`.

    Args:
        masks: the evaluator of the masks, after its run.
        boundary_dilation: as ``evaluate``.

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
        width = boundary_width(*size, dilation=boundary_dilation)
        boundaries = dict(
            zip(codes, inner_boundaries(list(codes.values()), width=width), strict=True)
        )
        for (row, column), (one, other) in zip(matches, chosen, strict=True):
            a, b = boundaries[id(one)], boundaries[id(other)]
            iou = np.count_nonzero(a & b) / np.count_nonzero(a | b)
            overlap[row, column] = min(overlap[row, column], iou)
    return overlaps


def boundary_width(height: int, width: int, *, dilation: float = 0.02) -> int:
    """Width of the boundary of a mask in pixels, rounded as its authors' code does.

    Python's ``round`` takes halves to the even neighbour: 3.5 and 4.5 are both 4.

    Args:
        height, width: of the image, in pixels.
        dilation: fraction of the image diagonal.
    """
    return max(1, round(dilation * math.hypot(height, width)))


def inner_boundaries(codes: list[dict[str, Any]], *, width: int) -> list[NDArray[np.uint8]]:
    """The part of each mask within ``width`` pixels of its contour (Cheng et al. 2021).

    The frame of the image is a contour, too: what it cuts has its boundary there.

    Args:
        codes: run-length codes of masks of one image.

    Returns:
        For each an h×w array of 0 and 1, on the part of the image that holds all of the masks.
    """
    boxes = coco_mask.toBbox(codes)
    left, top = boxes[:, :2].min(axis=0).astype(int)
    right, bottom = (boxes[:, :2] + boxes[:, 2:]).max(axis=0).astype(int)
    kernel = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    result = []
    for code in codes:
        mask = np.ascontiguousarray(coco_mask.decode(code)[top:bottom, left:right])
        core = cv2.erode(mask, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        result.append((mask - core).astype(np.uint8))
    return result


def _by_pair(coco: COCO) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """Annotations by image and category, in the file's order."""
    groups: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for annotation in coco.dataset["annotations"]:
        groups[annotation["image_id"], annotation["category_id"]].append(annotation)
    return groups
