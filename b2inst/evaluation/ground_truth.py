"""Ground truth in the form the COCO evaluators take it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from faster_coco_eval import COCO

from b2inst.data import CocoIndex, DataError
from b2inst.data.coco import inspect
from b2inst.evaluation.errors import EvaluationError

#: A COCO annotation file, its content, or what was read of it.
Annotations = str | Path | dict[str, Any] | CocoIndex


def load_ground_truth(annotations: Annotations) -> COCO:
    """Read COCO ground truth for evaluation, as training reads it.

    Raises:
        EvaluationError: the file is unreadable, has no images, or something in it is wrong.
    """
    index = annotations if isinstance(annotations, CocoIndex) else _read(annotations)
    if not index.images:
        raise EvaluationError(f"{index.annotation_file}: has no images to evaluate on")
    content = index.to_coco()
    for number, annotation in enumerate(content["annotations"], start=1):
        # The evaluators mean "unmatched" by id 0, so no annotation may have it.
        annotation["id"] = number
    return _as_coco(content["images"], content["annotations"], content["categories"])


def restrict(truth: COCO, image_ids: Collection[int]) -> COCO:
    """The same ground truth on some of its images.

    Raises:
        EvaluationError: an image is not in it.
    """
    kept = set(image_ids)
    unknown = sorted(kept - set(truth.imgs))
    if unknown:
        raise EvaluationError(f"image {unknown[0]} to evaluate on is not in the annotation file")
    return _as_coco(
        [image for image in truth.dataset["images"] if image["id"] in kept],
        [found for found in truth.dataset["annotations"] if found["image_id"] in kept],
        truth.dataset["categories"],
    )


def _as_coco(images: list[Any], annotations: list[Any], categories: list[Any]) -> COCO:
    return COCO({"images": images, "annotations": annotations, "categories": categories})


def _read(annotations: str | Path | dict[str, Any]) -> CocoIndex:
    try:
        found = inspect(annotations)
    except DataError as error:
        raise EvaluationError(str(error)) from error
    if found.problems:
        raise EvaluationError(f"{found.first_problem}; correct the annotations")
    return found.index
