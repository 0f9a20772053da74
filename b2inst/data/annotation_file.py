"""Reading the JSON of an annotation file, with no more of it in memory than is used."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from b2inst.data.errors import DataError
from b2inst.data.polygons import Polygons
from b2inst.data.validation import RawAnnotation

_IMAGE_FIELDS = ("id", "file_name", "coco_url", "height", "width")
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


@dataclass
class AnnotationFile:
    """The three lists of a COCO file, annotations as far as they are used."""

    path: Path
    images: list[Any]
    annotations: list[Any]
    categories: list[Any]
    polygons: Polygons
    notes: list[str] = field(default_factory=list)
    digest: Any = field(default_factory=hashlib.sha256)  #: of the file's bytes, to be continued


def read_annotation_file(source: Path | str | Mapping[str, Any]) -> AnnotationFile:
    """Read an annotation file, or take the content of one.

    Raises:
        DataError: it cannot be read, is not JSON, or lacks one of the lists.
    """
    polygons = Polygons()
    notes: list[str] = []

    def shrink(entry: dict[str, Any]) -> Any:
        """Keep what is used, as soon as the parser has an object."""
        if "segments_info" in entry:
            return entry
        if "image_id" in entry or "segmentation" in entry:
            return _raw_annotation(entry, polygons)
        if "file_name" in entry or "coco_url" in entry:
            return {name: entry[name] for name in _IMAGE_FIELDS if name in entry}
        return entry

    if isinstance(source, Mapping):
        path, digest = Path("annotations"), hashlib.sha256()
        content: Any = dict(source)
        if isinstance(content.get("annotations"), list):
            content["annotations"] = [
                shrink(e) if isinstance(e, dict) else e for e in content["annotations"]
            ]
    else:
        path = Path(source)
        content, notes, digest = _parse(path, shrink)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"{path}: has no list {key!r}; is it a COCO instances file?")
    if any(isinstance(e, dict) and "segments_info" in e for e in content["annotations"]):
        raise DataError(f"{path}: panoptic annotations; give the instances file of the same set")
    lists = content["images"], content["annotations"], content["categories"]
    return AnnotationFile(path, *lists, polygons, notes, digest)


def _parse(path: Path, shrink: Any) -> tuple[Any, list[str], Any]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    digest = hashlib.sha256(raw)
    notes = []
    if raw.startswith(_BYTE_ORDER_MARKS):
        notes.append("the file starts with a byte-order mark, which is ignored")
    try:
        text = raw.decode(json.detect_encoding(raw), "surrogatepass").removeprefix("\ufeff")
        del raw
        return json.loads(text, object_hook=shrink), notes, digest
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); restore the file") from error


def _raw_annotation(entry: dict[str, Any], polygons: Polygons) -> RawAnnotation:
    get = entry.get
    segmentation = get("segmentation")
    position = polygons.append(segmentation)
    return RawAnnotation(
        get("id"), get("image_id"), get("category_id"), get("iscrowd"), get("bbox"), get("area"),
        None if position is not None else segmentation, position,
    )  # fmt: skip
