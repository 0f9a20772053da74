"""Ground truth in the form the COCO evaluators take it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from faster_coco_eval import COCO

from b2inst.evaluation.errors import EvaluationError

#: A COCO annotation file, what it holds, or what :func:`load_ground_truth` made of it.
Annotations: TypeAlias = str | Path | dict[str, Any] | COCO


def load_ground_truth(annotations: Annotations) -> COCO:
    """Read COCO ground truth for evaluation; nothing is changed but annotation ids.

    Raises:
        EvaluationError: the file is unreadable, not COCO's or without images, or an annotation
            names an unknown image or category or has no segmentation.
    """
    if isinstance(annotations, COCO):
        return annotations
    name = "annotations" if isinstance(annotations, dict) else str(annotations)
    content = annotations if isinstance(annotations, dict) else _read_json(Path(annotations))
    try:
        images = [
            image | {"height": int(image["height"]), "width": int(image["width"])}
            for image in content["images"]
        ]
        image_ids = {image["id"] for image in images}
        category_ids = {category["id"] for category in content["categories"]}
        found = [
            {"id": annotation.get("id"), "iscrowd": int(annotation.get("iscrowd", 0))}
            | {key: annotation[key] for key in _FIELDS}
            for annotation in content["annotations"]
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EvaluationError(
            f"{name}: not COCO instance annotations ({error!r}); see `b2inst data check`"
        ) from error
    if not images:
        raise EvaluationError(f"{name}: has no images to evaluate on")
    for number, annotation in enumerate(found, start=1):
        where = f"{name}: annotation {annotation['id']}"
        if annotation["image_id"] not in image_ids:
            raise EvaluationError(
                f"{where} is for image {annotation['image_id']}, which is not there; remove it"
            )
        if annotation["category_id"] not in category_ids:
            raise EvaluationError(
                f"{where} has category {annotation['category_id']}, which is not there; remove it"
            )
        if not annotation["segmentation"]:
            raise EvaluationError(f"{where} has an empty segmentation; remove it")
        # The evaluators mean "unmatched" by id 0, so no annotation may have it.
        annotation["id"] = number
    return _as_coco(images, found, content["categories"])


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


_FIELDS = ("image_id", "category_id", "segmentation", "bbox", "area")


def _as_coco(images: list[Any], annotations: list[Any], categories: list[Any]) -> COCO:
    return COCO({"images": images, "annotations": annotations, "categories": categories})


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EvaluationError(f"{path}: not readable as COCO annotations ({error})") from error
    if not isinstance(content, dict):
        raise EvaluationError(f"{path}: not COCO annotations (images, annotations, categories)")
    return content
