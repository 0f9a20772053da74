"""Ground truth as the COCO evaluators take it, and parts of it."""

from __future__ import annotations

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
            index = CocoIndex.load(annotations, skip_bad=True)
        except DataError as error:
            raise EvaluationError(str(error)) from error
        if index.skipped:
            raise EvaluationError(f"{index.first_problem}; correct the annotations")
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


def decode_window(code: dict[str, Any], *, margin: int = 0) -> tuple[Window, NDArray[np.bool_]]:
    """Decode a mask inside its bounding box, with a margin, only; also returns that window."""
    left, top, width, height = coco_mask.toBbox(code).astype(int).tolist()
    image_height, image_width = code["size"]
    window = (
        slice(max(top - margin, 0), min(top + height + margin, image_height)),
        slice(max(left - margin, 0), min(left + width + margin, image_width)),
    )
    return window, np.ascontiguousarray(coco_mask.decode(code)[window]).astype(bool)


def touching(annotations: Annotations, *, distance: int = 2) -> set[int]:
    """Find the objects that are close to another object of their image, of any category.

    ``distance`` is in steps to any of the 8 neighbours; 0: they overlap; 1: or are adjacent; 2: or
    have one pixel between. Returns ids as ``load_ground_truth`` numbers them, without crowds.
    """
    truth = load_ground_truth(annotations)
    kernel = np.ones((2 * distance + 1, 2 * distance + 1), dtype=np.uint8)
    found = set()
    for image_id, image in truth.imgs.items():
        near = np.zeros((image["height"], image["width"]), dtype=np.int32)  # objects close by
        windows = {}
        for one in truth.imgToAnns[image_id]:
            if not one["iscrowd"]:
                code = code_of(one, image)
                windows[one["id"]] = window, mask = decode_window(code, margin=distance)
                near[window] += cv2.dilate(mask.view(np.uint8), kernel).astype(np.int32)
        # An object is close to its own pixels, so only a second one counts.
        found |= {i for i, (window, mask) in windows.items() if near[window][mask].max() > 1}
    return found


def touching_and_isolated(truth: COCO) -> dict[str, COCO]:
    """Return the ground truth of each of ``GROUPS``, in which the other objects are ignored."""
    found = touching(truth)
    others = {number for number, a in truth.anns.items() if not a["iscrowd"]} - found
    return {group: _only(truth, ids) for group, ids in zip(GROUPS, (found, others), strict=True)}


def _only(truth: COCO, ids: set[int]) -> COCO:
    """Ground truth of some objects; the others of an image and category become a single crowd.

    A detection of two of them is thus ignored like a detection of one.
    """
    annotations = truth.dataset["annotations"]
    kept = [a for a in annotations if a["id"] in ids]
    for (image_id, _), group in by_pair(a for a in annotations if a["id"] not in ids).items():
        crowd = coco_mask.merge([code_of(found, truth.imgs[image_id]) for found in group])
        box, area = coco_mask.toBbox(crowd).tolist(), float(coco_mask.area(crowd))
        kept.append(group[0] | {"segmentation": crowd, "bbox": box, "area": area, "iscrowd": 1})
    return COCO(truth.dataset | {"annotations": kept})
