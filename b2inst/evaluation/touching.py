"""Which objects touch another one: where masks are ambiguous, and a boundary may resolve it."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import cv2
import numpy as np
from faster_coco_eval import COCO

from b2inst.data.segmentation import to_rle
from b2inst.evaluation.cut_outs import cut_out
from b2inst.evaluation.ground_truth import Annotations, load_ground_truth

#: What the metrics of the objects that touch another one, and of the others, begin with.
GROUPS = ("touching_", "isolated_")


def touching(annotations: Annotations, *, distance: int = 2) -> set[int]:
    """The objects that lie close to another object of their image, of whichever category.

    Args:
        annotations: COCO annotation file, or its content.
        distance: a pixel of the one is at most so many steps from a pixel of the other, where a
            step goes to any of the 8 neighbours. At 0 they overlap, at 1 they may also adjoin, at 2
            one pixel may be between them.

    Returns:
        Ids of annotations as :func:`~b2inst.evaluation.ground_truth.load_ground_truth` numbers
        them, from 1 in the file's order. A crowd neither touches nor is touched.

    Raises:
        EvaluationError: the annotations are not valid.
    """
    truth = load_ground_truth(annotations)
    found = set()
    for image_id, image in truth.imgs.items():
        objects = [a for a in truth.imgToAnns[image_id] if not a["iscrowd"]]
        found |= _touching(objects, (image["height"], image["width"]), distance)
    return found


def touching_and_isolated(truth: COCO) -> dict[str, COCO]:
    """The ground truth of each of ``GROUPS``."""
    found = touching(truth)
    return dict(
        zip(GROUPS, (only(truth, found), only(truth, truth.anns.keys() - found)), strict=True)
    )


def only(truth: COCO, ids: Container[int]) -> COCO:
    """The same ground truth where all other annotations are ignored as crowds are.

    Detections that lie on an ignored object for the most part are neither right nor wrong.
    """
    annotations = [
        found if found["id"] in ids else found | {"iscrowd": 1}
        for found in truth.dataset["annotations"]
    ]
    return COCO(truth.dataset | {"annotations": annotations})


def _touching(objects: list[dict[str, Any]], size: tuple[int, int], distance: int) -> set[int]:
    kernel = np.ones((2 * distance + 1, 2 * distance + 1), dtype=np.uint8)
    near = np.zeros(size, dtype=np.int32)  # how many objects are that close to a pixel
    masks = []
    for found in objects:
        window, mask = cut_out(to_rle(found["segmentation"], *size), margin=distance)
        near[window] += cv2.dilate(mask.view(np.uint8), kernel).astype(np.int32)
        masks.append((window, mask))
    # An object is close to its own pixels, so a second one tells.
    return {
        found["id"]
        for found, (window, mask) in zip(objects, masks, strict=True)
        if near[window][mask].max() > 1
    }
