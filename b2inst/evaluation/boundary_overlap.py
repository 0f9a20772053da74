"""Boundary IoU of the detections that can match at all, those with a mask IoU of at least 0.5.

Extracting boundaries is by far the most expensive step of the evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from faster_coco_eval import COCOeval_faster
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from b2inst.evaluation.ground_truth import (
    Annotations,
    by_pair,
    code_of,
    decode_window,
    load_ground_truth,
)
from b2inst.evaluation.predictions import EvaluationError

#: IoUs of detections (in descending order of score) × annotations, by image and category.
Overlaps = Mapping[tuple[int, int], Any]


def boundary_overlaps(masks: COCOeval_faster, *, boundary_pixels: int | None = None) -> Overlaps:
    """Compute the overlaps that boundary AP is based on from the evaluator of masks, after its run.

    Detections × annotations by image and category: the smaller of the two IoUs where the mask IoU
    is at least 0.5, otherwise the mask IoU. For crowds always the mask IoU.
    """
    detections, annotations = (
        by_pair(coco.dataset["annotations"]) for coco in (masks.cocoDt, masks.cocoGt)
    )
    overlaps = {}
    for pair, found in masks.ious.items():
        overlaps[pair] = overlap = np.array(found)
        if not overlap.size:
            continue
        image, objects = masks.cocoGt.imgs[pair[0]], annotations[pair]
        ranked = sorted(detections[pair], key=lambda d: -d["score"])
        width = boundary_width(image["height"], image["width"], pixels=boundary_pixels)
        boundaries: dict[int, NDArray[np.int64]] = {}
        crowd = np.array([bool(a["iscrowd"]) for a in objects])
        for row, column in np.argwhere((overlap >= 0.5) & ~crowd):
            for record in (both := (ranked[row], objects[column])):
                if id(record) not in boundaries:
                    boundaries[id(record)] = inner_boundary(code_of(record, image), width=width)
            a, b = (boundaries[id(record)] for record in both)
            common = len(np.intersect1d(a, b, assume_unique=True))
            iou = common / (len(a) + len(b) - common)
            overlap[row, column] = min(overlap[row, column], iou)
    return overlaps


def swallowed_share(annotations: Annotations, *, boundary_pixels: int | None = None) -> float:
    """Compute the share of objects whose boundary is the entire mask, in [0, 1].

    For such masks boundary IoU equals mask IoU.

    Args:
        annotations: COCO annotation file, or its content.
        boundary_pixels: Width of the boundary in pixels (default: 2 % of the image diagonal).
    """
    truth = load_ground_truth(annotations)
    objects = [found for found in truth.dataset["annotations"] if not found["iscrowd"]]
    swallowed = 0
    for found in objects:
        image = truth.imgs[found["image_id"]]
        code = code_of(found, image)
        width = boundary_width(image["height"], image["width"], pixels=boundary_pixels)
        swallowed += len(inner_boundary(code, width=width)) == coco_mask.area(code)
    return swallowed / max(len(objects), 1)


def boundary_width(height: int, width: int, *, pixels: int | None = None) -> int:
    """Return the width of mask boundaries in pixels: ``pixels``, or 2 % of the image diagonal.

    Halves are rounded to the even neighbour as in the authors' code: 3.5 and 4.5 both become 4.
    """
    if pixels is None:
        return max(1, round(0.02 * math.hypot(height, width)))
    if pixels < 1:
        raise EvaluationError(f"boundary_pixels is {pixels}; give at least 1")
    return pixels


def inner_boundary(code: dict[str, Any], *, width: int) -> NDArray[np.int64]:
    """Find the pixels of a mask within ``width`` pixels of its contour (Cheng et al. 2021).

    The image border counts as contour. Returns ascending indices into the row-major image.
    """
    window, mask = decode_window(code)
    kernel = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    core = cv2.erode(
        mask.view(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0
    ).astype(bool)
    rows, columns = np.nonzero(mask & ~core)
    return (rows + window[0].start) * code["size"][1] + columns + window[1].start
