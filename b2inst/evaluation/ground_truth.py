"""Ground truth in the form the COCO evaluators take it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from faster_coco_eval import COCO

from b2inst.data import CocoIndex, DataError
from b2inst.data.coco import inspect
from b2inst.evaluation.errors import EvaluationError

#: A COCO annotation file, its content, or what was read of it.
Annotations: TypeAlias = str | Path | dict[str, Any] | CocoIndex | COCO


def load_ground_truth(annotations: Annotations) -> COCO:
    """Read COCO ground truth for evaluation, as training reads it.

    Raises:
        EvaluationError: the file is unreadable, has no images, or something in it is wrong.
    """
    if isinstance(annotations, COCO):
        return annotations
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


def numbered(
    truth: COCO, predictions: Iterable[Mapping[str, Any]]
) -> tuple[COCO, list[dict[str, Any]]]:
    """Ground truth and predictions with images and categories numbered from 1 by ascending id.

    The evaluator holds ids as floating-point numbers, which are exact up to 2⁵³ only: time stamps
    are beyond. The order is kept, since it decides between detections of equal score.

    Returns:
        Copies; nothing is changed in place.
    """
    images = {image_id: n for n, image_id in enumerate(sorted(truth.imgs), start=1)}
    categories = {category_id: n for n, category_id in enumerate(sorted(truth.cats), start=1)}

    def renumber(record: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **record,
            "image_id": images[record["image_id"]],
            "category_id": categories[record["category_id"]],
        }

    copy = _as_coco(
        [image | {"id": images[i]} for i, image in truth.imgs.items()],
        [renumber(annotation) for annotation in truth.dataset["annotations"]],
        [category | {"id": categories[i]} for i, category in truth.cats.items()],
    )
    return copy, [renumber(record) for record in predictions]


def _as_coco(images: list[Any], annotations: list[Any], categories: list[Any]) -> COCO:
    return COCO({"images": images, "annotations": annotations, "categories": categories})


def _read(annotations: str | Path | dict[str, Any]) -> CocoIndex:
    try:
        found = inspect(annotations)
    except DataError as error:
        raise EvaluationError(str(error)) from error
    if found.skipped:
        raise EvaluationError(f"{found.first_problem}; correct the annotations")
    return found
