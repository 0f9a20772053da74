"""Ground truth as the COCO evaluators take it, and parts of it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from faster_coco_eval import COCO
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from b2inst.data import CocoIndex, DataError
from b2inst.data.segmentation import to_rle
from b2inst.evaluation.predictions import EvaluationError

#: A COCO annotation file, its content, or an index or COCO object of it.
Annotations: TypeAlias = str | Path | dict[str, Any] | CocoIndex | COCO

#: Prefixes of the metrics on objects that touch another object, and on the others.
GROUPS = ("touching_", "isolated_")

Window = tuple[slice, slice]  # rows and columns of an image
WindowMask = tuple[Window, NDArray[np.bool_]]  # a mask inside a window only

_STEPS = 2  # to any of the 8 neighbours, between objects that touch


def load_ground_truth(annotations: Annotations) -> COCO:
    """Read COCO ground truth for evaluation, with the same checks as for training.

    Annotations are numbered from 1, since the evaluators take id 0 for "unmatched".
    """
    if isinstance(annotations, COCO):
        return annotations
    if isinstance(annotations, CocoIndex):
        index = annotations
    else:
        try:
            index = CocoIndex.load(annotations)
        except DataError as error:
            raise EvaluationError(str(error)) from error
    if not index.images:
        raise EvaluationError(f"{index.annotation_file}: has no images to evaluate on")
    content = index.to_coco()
    for number, annotation in enumerate(content["annotations"], start=1):
        annotation["id"] = number
    return COCO(content)


def by_pair(records: Iterable[dict[str, Any]]) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """Group annotations or detections by image and category, keeping their order."""
    groups: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        groups[record["image_id"], record["category_id"]].append(record)
    return groups


def code_of(record: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    """Return the run-length code of an annotation or detection of an image."""
    return to_rle(record["segmentation"], image["height"], image["width"])


def decode_window(code: dict[str, Any], *, margin: int = 0) -> WindowMask:
    """Decode a mask inside its bounding box, with a margin, only."""
    left, top, width, height = coco_mask.toBbox(code).astype(int).tolist()
    image_height, image_width = code["size"]
    window = (
        slice(max(top - margin, 0), min(top + height + margin, image_height)),
        slice(max(left - margin, 0), min(left + width + margin, image_width)),
    )
    return window, np.ascontiguousarray(coco_mask.decode(code)[window]).astype(bool)


def touching(annotations: Annotations) -> set[int]:
    """Find the objects that overlap, adjoin or have one pixel between, of any category.

    Returns ids as ``load_ground_truth`` numbers them, without crowds.
    """
    truth = load_ground_truth(annotations)
    kernel = np.ones((2 * _STEPS + 1, 2 * _STEPS + 1), dtype=np.uint8)
    found = set()
    for image_id, image in truth.imgs.items():
        near = np.zeros((image["height"], image["width"]), dtype=np.int32)  # objects close by
        objects = {
            a["id"]: code_of(a, image) for a in truth.imgToAnns[image_id] if not a["iscrowd"]
        }
        windows = {i: decode_window(code, margin=_STEPS) for i, code in objects.items()}
        for window, mask in windows.values():
            near[window] += cv2.dilate(mask.view(np.uint8), kernel)
        # An object is close to its own pixels, so only a second one counts.
        found |= {i for i, (window, mask) in windows.items() if near[window][mask].max() > 1}
    return found


def touching_and_isolated(truth: COCO) -> dict[str, COCO]:
    """Return the ground truth of each of ``GROUPS``.

    The other objects of an image and category are a single crowd in it, so that a detection of two
    of them is ignored like a detection of one.
    """
    found, annotations = touching(truth), truth.dataset["annotations"]
    others = {a["id"] for a in annotations if not a["iscrowd"]} - found
    parts = {}
    for name, ids in zip(GROUPS, (found, others), strict=True):
        kept = [a for a in annotations if a["id"] in ids]
        for (image_id, _), group in by_pair(a for a in annotations if a["id"] not in ids).items():
            crowd = coco_mask.merge([code_of(a, truth.imgs[image_id]) for a in group])
            box, area = coco_mask.toBbox(crowd).tolist(), float(coco_mask.area(crowd))
            kept.append(group[0] | {"segmentation": crowd, "bbox": box, "area": area, "iscrowd": 1})
        parts[name] = COCO(truth.dataset | {"annotations": kept})
    return parts


def swallowed_share(annotations: Annotations, *, boundary_pixels: int | None = None) -> float:
    """Compute the share of objects whose boundary is the entire mask, in [0, 1].

    For such masks boundary IoU equals mask IoU.

    Args:
        annotations: COCO annotation file, or its content.
        boundary_pixels: Width of the boundary in pixels (default: 2 % of the image diagonal).
    """
    truth = load_ground_truth(annotations)
    swallowed = []
    for image_id, image in truth.imgs.items():
        width = boundary_width(image["height"], image["width"], pixels=boundary_pixels)
        codes = [code_of(a, image) for a in truth.imgToAnns[image_id] if not a["iscrowd"]]
        swallowed += [inner_boundary(c, width=width)[1].sum() == coco_mask.area(c) for c in codes]
    return sum(swallowed) / max(len(swallowed), 1)


def boundary_width(height: int, width: int, *, pixels: int | None = None) -> int:
    """Return the width of mask boundaries in pixels: ``pixels``, or 2 % of the image diagonal.

    Halves are rounded to the even neighbour as in the authors' code: 3.5 and 4.5 both become 4.
    """
    return pixels or max(1, round(0.02 * math.hypot(height, width)))


def inner_boundary(code: dict[str, Any], *, width: int) -> WindowMask:
    """Find the pixels of a mask within ``width`` pixels of its contour or the image border."""
    window, mask = decode_window(code)
    kernel = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    core = cv2.erode(mask.view(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return window, mask & (core == 0)


def count_common(one: WindowMask, other: WindowMask) -> int:
    """Count the pixels that two masks of an image have in common."""
    pairs = zip(one[0], other[0], strict=True)
    spans = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in pairs]
    if any(stop <= start for start, stop in spans):
        return 0

    def inside(window: Window, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        shifted = zip(spans, window, strict=True)
        return mask[tuple(slice(a - own.start, b - own.start) for (a, b), own in shifted)]

    return int(np.count_nonzero(inside(*one) & inside(*other)))
