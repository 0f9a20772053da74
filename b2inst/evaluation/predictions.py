"""Prediction files: COCO results, one JSON object a line, gzipped (``predictions.jsonl.gz``).

Masks become run-length codes as soon as an image is done, so memory does not grow with the number
of images, and a file can be evaluated again without inference.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from b2inst.evaluation.errors import EvaluationError

if TYPE_CHECKING:  # files are read without PyTorch
    from torch import Tensor

    from b2inst.structures import Instances

if TYPE_CHECKING:
    from faster_coco_eval import COCO

#: One detection: ``image_id``, ``category_id`` (COCO's), ``score`` (ranking score),
#: ``class_score``, ``iou_score`` and ``boundary_score`` where predicted, ``bbox`` (x y w h in
#: pixels), ``segmentation`` (compressed run-length code).
Prediction = dict[str, Any]

_REMEDY = "predict again"


class PredictionWriter:
    """Streams predictions to ``path``; the file appears under its name only when complete.

    A context manager: leaving it normally renames the temporary file, leaving it by an exception
    removes it. Equal predictions give equal bytes.

    Args:
        path: file to write, ``….jsonl.gz``; missing folders are made.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.count = 0  #: detections written so far
        self._partial = self.path.with_name(f".{self.path.name}.partial")
        with self._writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._partial.open("wb")
        # No name and no time in the header: the bytes depend on the predictions alone.
        self._gzip = gzip.GzipFile("", "wb", compresslevel=5, fileobj=self._file, mtime=0)
        self._text = io.TextIOWrapper(self._gzip, encoding="utf-8", newline="\n")

    def write(self, image_id: int, instances: Instances, category_ids: Sequence[int]) -> None:
        """Append the detections of one image.

        Args:
            image_id: COCO's id of the image.
            instances: N detections in pixels of the original image.
            category_ids: COCO category id of each contiguous label.

        Raises:
            EvaluationError: a NaN or infinite score or box, a label without category, or the disk
                is full.
        """
        self.append(to_records(image_id, instances, category_ids))

    def append(self, records: Iterable[Prediction]) -> None:
        """Append detections that ``to_records`` has made.

        Raises:
            EvaluationError: the disk is full.
        """
        for record in records:
            with self._writing():
                self._text.write(json.dumps(record, separators=(",", ":")) + "\n")
            self.count += 1

    def close(self) -> None:
        """Finish the file and give it its name."""
        with self._writing():
            self._text.close()
            self._file.close()
            self._partial.replace(self.path)

    def discard(self) -> None:
        """Remove what was written; an older file of that name stays as it is."""
        with suppress(OSError):  # what cannot be flushed is not wanted anyway
            self._text.close()
        with suppress(OSError):
            self._file.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.discard()
            return
        try:
            self.close()
        except EvaluationError:
            self.discard()
            raise

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EvaluationError(
                f"{self.path}: cannot be written ({error.strerror}); free space or choose "
                "another folder"
            ) from error


def to_records(
    image_id: int,
    instances: Instances,
    category_ids: Sequence[int],
    *,
    file: str | Path | None = None,
) -> list[Prediction]:
    """The detections of one image as COCO results.

    Scores keep float32's precision, boxes a thousandth of a pixel. The order is the instances'.

    Args:
        image_id: COCO's id of the image.
        instances: N detections in pixels of the original image.
        category_ids: COCO category id of each contiguous label.
        file: the image, as errors call it (default: by its id).

    Raises:
        EvaluationError: a NaN or infinite score or box, or a label without category.
    """
    from b2inst.ops.masks import encode_rle

    corners = instances.boxes.detach().double().cpu()
    boxes = corners.clone()
    boxes[:, 2:] -= corners[:, :2]  # x1 y1 x2 y2 → x y w h
    columns = {
        "score": _floats(instances.scores),
        "class_score": _floats(instances.class_scores),
        "iou_score": _floats(instances.iou_scores),
        "boundary_score": _floats(instances.boundary_scores),
    }
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
        record |= {name: values[i] for name, values in columns.items() if values is not None}
        record["bbox"] = [round(value, 3) for value in boxes[i].tolist()]
        record["segmentation"] = codes[i]
        check_record(record, where)
        records.append(record)
    return records


def read_predictions(path: str | Path) -> list[Prediction]:
    """All detections of a prediction file, in the order written.

    Raises:
        EvaluationError: the file is missing, cut short or not of this format, or a detection lacks
            a field or has a NaN; names file and line.
    """
    return list(iterate_predictions(path))


def iterate_predictions(path: str | Path) -> Iterator[Prediction]:
    """As :func:`read_predictions`, one detection at a time."""
    path = Path(path)
    if not path.is_file():
        raise EvaluationError(f"{path}: no such prediction file; {_REMEDY}")
    where = f"{path} line 1"
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                where = f"{path} line {number}"
                record = json.loads(line)
                check_record(record, where)
                yield record
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EvaluationError(f"{where}: cannot be read ({error}); {_REMEDY}") from error


def ranked_by_class(predictions: list[Prediction]) -> list[Prediction]:
    """The same detections with S_class as their score: what they were if no mask was rated."""
    return [{**p, "score": p.get("class_score", p["score"])} for p in predictions]


def to_coco_json(path: str | Path, out: str | Path, *, keys: Sequence[str] | None = None) -> None:
    """Write a prediction file as the one JSON list that other COCO tools read.

    Args:
        keys: what is written of each detection (default: all).

    Raises:
        EvaluationError: as :func:`read_predictions`.
    """
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write("[")
        for i, record in enumerate(iterate_predictions(path)):
            file.write(",\n" if i else "\n")
            chosen = record if keys is None else {key: record[key] for key in keys}
            json.dump(chosen, file, separators=(",", ":"))
        file.write("\n]\n")
    partial.replace(out)


def check_against(predictions: Iterable[Prediction], truth: COCO) -> None:
    """Check predictions against the images and categories they are to be evaluated on.

    COCO's evaluators accept most of these silently and count them in their own ways.

    Raises:
        EvaluationError: a missing field, a NaN, an unknown image or category, or a mask whose size
            is not its image's.
    """
    for i, record in enumerate(predictions):
        where = f"prediction {i}"
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
    """Raise EvaluationError unless the ground truth has a detection's image and category."""
    for name, known in (("image_id", truth.imgs), ("category_id", truth.cats)):
        if record[name] not in known:
            raise EvaluationError(
                f"{where}: {name} {record[name]} is not in the annotation file; "
                "evaluate with the annotations the predictions were made for"
            )


def check_record(record: Any, where: str) -> None:
    """Raise EvaluationError unless ``record`` is a detection with finite numbers."""
    if not isinstance(record, dict):
        raise EvaluationError(f"{where}: {record!r:.40} is not a detection; {_REMEDY}")
    for name, (meaning, is_valid) in _FIELDS.items():
        if name not in record:
            if name != "class_score":
                raise EvaluationError(f"{where}: has no {name} ({meaning}); {_REMEDY}")
        elif not is_valid(record[name]):
            raise EvaluationError(
                f"{where}: {name} is {record[name]!r:.40}, not {meaning}; {_REMEDY}"
            )
    scores = (("score", [record["score"]]), ("class_score", [record.get("class_score", 0.0)]))
    for name, values in (*scores, ("bbox", record["bbox"])):
        if not all(map(math.isfinite, values)):
            raise EvaluationError(
                f"{where}: {name} {record[name]} is not finite; the model has diverged or its "
                "weights are damaged"
            )
    if min(record["bbox"][2:]) < 0:
        raise EvaluationError(
            f"{where}: bbox {record['bbox']} has a negative width or height; write x y w h"
        )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _is_code(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("counts"), str | bytes)
        and isinstance(size := value.get("size"), list | tuple)
        and len(size) == 2
        and all(map(_is_number, size))
    )


_FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "image_id": ("a whole number", _is_whole),
    "category_id": ("a whole number", _is_whole),
    "score": ("a number", _is_number),
    "class_score": ("a number", _is_number),
    "bbox": ("x, y, width, height", _is_box),
    "segmentation": ("a compressed run-length code", _is_code),
}


def _floats(values: Tensor | None) -> list[float] | None:
    """Float32 values with the nine digits that tell them all apart."""
    if values is None:
        return None
    return [float(f"{value:.9g}") for value in values.detach().float().cpu().tolist()]
