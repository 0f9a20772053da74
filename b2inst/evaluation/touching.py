"""Which objects touch another one: where masks are ambiguous, and a boundary may resolve it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container
from typing import Any

import cv2
import numpy as np
from faster_coco_eval import COCO
from pycocotools import mask as coco_mask

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
        Ids of annotations, as :func:`~b2inst.evaluation.ground_truth.load_ground_truth` gives them.
        A crowd neither touches nor is touched.

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
    others = {number for number, a in truth.anns.items() if not a["iscrowd"]} - found
    return {group: only(truth, ids) for group, ids in zip(GROUPS, (found, others), strict=True)}


def only(truth: COCO, ids: Container[int]) -> COCO:
    """The same ground truth where all but some objects are ignored as crowds are.

    The others of an image and category become one crowd, so that a detection of two of them is
    ignored, as one of them is: it is not wrong about the objects that are left.
    """
    annotations, others = [], defaultdict(list)
    for found in truth.dataset["annotations"]:
        if found["id"] in ids:
            annotations.append(found)
        else:
            others[found["image_id"], found["category_id"]].append(found)
    for group in others.values():
        image = truth.imgs[group[0]["image_id"]]
        size = (image["height"], image["width"])
        crowd = coco_mask.merge([to_rle(found["segmentation"], *size) for found in group])
        box, area = coco_mask.toBbox(crowd).tolist(), float(coco_mask.area(crowd))
        annotations.append(
            group[0] | {"segmentation": crowd, "bbox": box, "area": area, "iscrowd": 1}
        )
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
