"""Reading the JSON of an annotation file, with no more of it in memory than is used."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from b2inst.data.errors import DataError

_FIELDS = (
    "id", "image_id", "category_id", "iscrowd", "bbox", "area", "segmentation", "segments_info",
    "file_name", "coco_url", "height", "width", "name",
)  # fmt: skip
_MARKS = ("image_id", "segmentation", "file_name", "coco_url")  # of annotations and images
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


class Packed(int):
    """The position of an annotation's polygons in ``Polygons``, in the place of them."""


class Polygons:
    """The polygons of N annotations, packed into one array and measured together.

    COCO's train2017 has some 900,000 of them; one by one they take more time to measure, and as
    Python numbers four times the memory. Pack first, then measure or read.
    """

    def __init__(self) -> None:
        self._numbers = array("d")
        self._ends = array("q", [0])  # of the polygons, in numbers
        self._first = array("q", [0])  # polygons before each annotation

    def packed(self, segmentation: object) -> object:
        """Pack a list of lists of at least three pairs of numbers; anything else is returned."""
        if not isinstance(segmentation, list) or not segmentation:
            return segmentation
        numbers, ends = self._numbers, self._ends
        before = len(numbers), len(ends)
        try:
            for polygon in segmentation:
                if len(polygon) < 6 or len(polygon) % 2:
                    raise ValueError
                numbers.fromlist(polygon)  # runs in C and refuses all but numbers
                ends.append(len(numbers))
        except (TypeError, ValueError, OverflowError):
            del numbers[before[0] :], ends[before[1] :]
            return segmentation
        self._first.append(len(ends) - 1)
        return Packed(len(self) - 1)

    def __len__(self) -> int:
        return len(self._first) - 1

    def __getitem__(self, k: int) -> list[NDArray[np.float64]]:
        """Annotation k's polygons, each x1 y1 x2 y2 …, in memory of their own."""
        ends = self._ends[self._first[k] : self._first[k + 1] + 1]
        return [np.array(self._numbers[a:b]) for a, b in pairwise(ends)]

    def sound(
        self, sizes: NDArray[np.float64], *, tolerance: float, area: float
    ) -> NDArray[np.bool_]:
        """Whether no polygon of each annotation leaves its image, and one has an area.

        Args:
            sizes: N×2, width and height of the images; NaN where there is none.
            tolerance: pixels that a point may be outside.
            area: pixels that one polygon must have, and a pixel of width and height in its image.
        """
        if not len(self):
            return np.zeros(0, dtype=bool)
        points = np.frombuffer(self._numbers).reshape(-1, 2)
        ends = np.frombuffer(self._ends, dtype=np.int64) // 2
        first = np.frombuffer(self._first, dtype=np.int64)[:-1]
        starts, last = ends[:-1], ends[1:] - 1
        low, high = np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)
        limit = np.repeat(sizes, np.diff(self._first), axis=0)
        inside = ((low >= -tolerance) & (high <= limit + tolerance)).all(axis=1)
        following = np.roll(points, -1, axis=0)
        following[last] = points[starts]
        with np.errstate(all="ignore"):  # what is not finite is outside of its image anyway
            cross = points[:, 0] * following[:, 1]
            cross -= following[:, 0] * points[:, 1]
            areas = np.abs(np.add.reduceat(cross, starts)) / 2  # shoelace formula
        sides = np.minimum(high, limit) - np.maximum(low, 0)
        broad = (sides.min(axis=1) >= 1) & (areas >= area)
        return np.logical_and.reduceat(inside, first) & np.logical_or.reduceat(broad, first)


@dataclass
class AnnotationFile:
    """The three lists of a COCO file, their entries as far as they are used."""

    path: Path
    images: list[Any]
    annotations: list[Any]
    categories: list[Any]
    polygons: Polygons
    digest: Any  #: sha256 of the file's bytes, to be continued
    marked: bool  #: it starts with a byte-order mark


def read_annotation_file(source: Path | str | Mapping[str, Any]) -> AnnotationFile:
    """Read an annotation file, or take the content of one; DataError if it is none."""
    polygons, digest, marked = Polygons(), hashlib.sha256(), False

    def shrink(entry: dict[str, Any]) -> dict[str, Any]:
        """Keep what is used, as soon as the parser has an object."""
        if not any(name in entry for name in _MARKS):
            return entry
        kept = {name: entry[name] for name in _FIELDS if name in entry}
        if "segmentation" in kept:
            kept["segmentation"] = polygons.packed(kept["segmentation"])
        return kept

    content: Any
    if isinstance(source, Mapping):
        path, content = Path("annotations"), dict(source)
        if isinstance(content.get("annotations"), list):
            entries = content["annotations"]
            content["annotations"] = [shrink(e) if isinstance(e, dict) else e for e in entries]
    else:
        path = Path(source)
        try:
            raw = path.read_bytes()
            digest.update(raw)
            marked = raw.startswith(_BYTE_ORDER_MARKS)
            text = raw.decode(json.detect_encoding(raw), "surrogatepass").removeprefix("\ufeff")
            del raw
            content = json.loads(text, object_hook=shrink)
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: not JSON ({error}); restore the file") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"{path}: has no list {key!r}; is it a COCO instances file?")
    if any(isinstance(e, dict) and "segments_info" in e for e in content["annotations"]):
        raise DataError(f"{path}: panoptic annotations; give the instances file of the same set")
    lists = content["images"], content["annotations"], content["categories"]
    return AnnotationFile(path, *lists, polygons, digest, marked)
