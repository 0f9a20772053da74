"""Prediction files: COCO results, one JSON object per line, gzipped (``predictions.jsonl.gz``)."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

from pydantic import Field, FiniteFloat, Strict, StrictInt, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from b2inst.data.files import replacing

if TYPE_CHECKING:  # files are read without PyTorch
    from faster_coco_eval import COCO

    from b2inst.structures import Instances

#: One detection: ``image_id``, ``category_id`` (COCO's), ``score`` (ranking score),
#: ``class_score``, ``iou_score`` and ``boundary_score`` where predicted, ``bbox`` (x y w h in
#: pixels), ``segmentation`` (compressed run-length code).
Prediction = dict[str, Any]


#: What is wrong with the predictions of an unknown image or category, and the remedy.
NOT_EVALUATED = (
    "is not among the {} evaluated; evaluate with the annotations, and --val-fraction if any, the "
    "predictions were made for"
)


class EvaluationError(ValueError):
    """Predictions or ground truth that cannot be evaluated; names which, and a remedy."""


def save_predictions(path: str | Path, records: Iterable[Prediction]) -> None:
    """Write detections to a file, which appears only when it is complete.

    Equal predictions give equal bytes.

    Args:
        path: File to write, ``….jsonl.gz``; missing folders are created.
        records: Detections as :func:`to_records` returns them, which may be generated meanwhile.

    Raises:
        EvaluationError: The file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            replacing(path) as partial,
            partial.open("wb") as file,
            # Neither name nor time in the header, so that bytes depend on the predictions alone.
            gzip.GzipFile("", "wb", compresslevel=5, fileobj=file, mtime=0) as packed,
        ):
            for record in records:
                packed.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
    except OSError as error:
        raise EvaluationError(
            f"{path}: cannot be written ({error}); free space or choose another folder"
        ) from error


def to_records(
    image_id: int,
    instances: Instances,
    category_ids: Sequence[int],
    *,
    file: str | Path | None = None,
) -> list[Prediction]:
    """Convert the detections of one image to COCO results, in the same order.

    Scores keep float32 precision; boxes are rounded to a thousandth of a pixel.

    Args:
        image_id: COCO id of the image.
        instances: N detections in pixels of the original image.
        category_ids: COCO category id of each contiguous label.
        file: Name of the image for error messages (default: its id).

    Raises:
        EvaluationError: A score or box is not finite or valid, or a label has no category.
    """
    from torchvision.ops import box_convert

    from b2inst.ops.masks import encode_rle

    boxes = box_convert(instances.boxes.detach().double().cpu(), "xyxy", "xywh").tolist()
    scores = {}
    for name in ("score", "class_score", "iou_score", "boundary_score"):
        if (values := getattr(instances, f"{name}s")) is not None:
            # Nine digits distinguish all float32 values.
            scores[name] = [float(f"{v:.9g}") for v in values.detach().float().cpu().tolist()]
    codes = encode_rle(instances.masks)
    records = []
    for i, label in enumerate(instances.labels.tolist()):
        where = f"{file or f'image {image_id}'}, detection {i}"
        if not 0 <= label < len(category_ids):
            raise EvaluationError(
                f"{where}: label {label} has no category among the data's {len(category_ids)}; "
                "evaluate on data with the model's classes"
            )
        record: Prediction = {"image_id": int(image_id), "category_id": int(category_ids[label])}
        record |= {name: values[i] for name, values in scores.items()}
        record["bbox"] = [round(value, 3) for value in boxes[i]]
        record["segmentation"] = codes[i]
        check_record(record, where)
        records.append(record)
    return records


def read_predictions(path: str | Path) -> list[Prediction]:
    """Read all detections of a prediction file; an EvaluationError names file and line."""
    return list(iterate_predictions(path))


def iterate_predictions(path: str | Path) -> Iterator[Prediction]:
    """Read a prediction file one detection at a time."""
    if not Path(path).is_file():
        raise EvaluationError(f"{path}: no such prediction file; predict again")
    where = f"{path} line 1"
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                where = f"{path} line {number}"
                record = json.loads(line)
                check_record(record, where)
                yield record
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EvaluationError(f"{where}: cannot be read ({error}); predict again") from error


def ranked_by_class(predictions: list[Prediction]) -> list[Prediction]:
    """Replace each ``score`` by ``class_score``, as without mask scoring."""
    return [{**p, "score": p.get("class_score", p["score"])} for p in predictions]


def check_against(predictions: Iterable[Prediction], truth: COCO, file: str = "") -> None:
    """Raise EvaluationError if a detection is invalid or does not belong to the ground truth.

    COCO's evaluators accept unknown images and categories, and masks of another size, silently.
    """
    for i, record in enumerate(predictions):
        where = f"{file}prediction {i}"
        check_record(record, where)
        check_ids(record, where, truth)
        image = truth.imgs[record["image_id"]]
        height, width = record["segmentation"]["size"]
        if (height, width) != (image["height"], image["width"]):
            raise EvaluationError(
                f"{where}: its mask is {height}×{width} (height×width) but image {image['id']} "
                f"is {image['height']}×{image['width']}; predict on the original images"
            )


def check_ids(record: Prediction, where: str, truth: COCO) -> None:
    """Raise EvaluationError if the ground truth lacks a detection's image or category."""
    for name, known, part in (
        ("image_id", truth.imgs, "images"),
        ("category_id", truth.cats, "categories"),
    ):
        if record[name] not in known:
            raise EvaluationError(f"{where}: {name} {record[name]} {NOT_EVALUATED.format(part)}")


_Number = Annotated[FiniteFloat, Strict()]
_Length = Annotated[_Number, Field(ge=0)]


class _RunLengths(TypedDict):
    size: tuple[StrictInt, StrictInt]
    counts: str | bytes


class _Detection(TypedDict):
    image_id: StrictInt
    category_id: StrictInt
    score: _Number
    class_score: NotRequired[_Number]
    bbox: tuple[_Number, _Number, _Length, _Length]
    segmentation: _RunLengths


_DETECTION = TypeAdapter(_Detection)
_LISTS = {"bbox": "not four numbers x y w h", "segmentation.size": "not height and width"}
_REMEDIES = {
    "finite_number": "the model has diverged or its weights are damaged",
    "greater_than_equal": "write x y w h",
}


def check_record(record: Any, where: str) -> None:
    """Raise EvaluationError, with ``where``, if a field of a detection is missing or invalid."""
    try:
        _DETECTION.validate_python(record)
    except ValidationError as error:
        first = error.errors()[0]
        place, missing = first["loc"], first["type"] == "missing"
        if missing and isinstance(place[-1], int):  # a list is too short
            place, missing = place[:-1], False
        field = ".".join(map(str, place)) or "the detection"
        problem, remedy = f"has no {field}", _REMEDIES.get(first["type"], "predict again")
        if not missing:
            reason = _LISTS.get(field, first["msg"].lower())
            problem = f"{field} is {first['input']!r:.60}: {reason}"
        raise EvaluationError(f"{where}: {problem}; {remedy}") from None
