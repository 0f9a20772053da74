"""Checking the entries of a COCO annotation file, one at a time.

Each reader returns the entry in one form, or raises EntryError with half a line on what is wrong;
the caller adds the name of the file.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from typing import Any, NamedTuple

from b2inst.data.segmentation import BORDER_TOLERANCE

#: pycocotools counts pixels in 32 bits.
_MAX_PIXELS = 2**31


class EntryError(ValueError):
    """What is wrong with an entry, as half a line."""


class Notes:
    """What was read in another way than the file has it, with how often and where first."""

    def __init__(self) -> None:
        self._names: dict[str, list[str]] = {}

    def add(self, what: str, name: str) -> None:
        """Note something about the entry of this name."""
        self._names.setdefault(what, []).append(name)

    def lines(self) -> list[str]:
        """A line for each kind of note."""
        return [f"{what}: {len(names)} ({shortened(names)})" for what, names in self._names.items()]


def shortened(names: Sequence[str], shown: int = 5) -> str:
    """The first of some names, with commas."""
    return ", ".join([*names[:shown], *["…"] * (len(names) > shown)])


class RawAnnotation(NamedTuple):
    """The fields of an annotation that are used, as the file has them; None where it has none."""

    id: Any = None
    image_id: Any = None
    category_id: Any = None
    iscrowd: Any = None
    bbox: Any = None
    area: Any = None
    segmentation: Any = None
    polygons: int | None = None  #: position in Polygons, in place of ``segmentation``

    def __str__(self) -> str:
        return f"annotation {self.id} (image {self.image_id})"


def whole_number(value: object) -> int | None:
    """A whole number, also if it is written as 7.0; None for anything else."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None


def read_id(kind: str, entry: object, seen: Container[int]) -> int:
    """The id of an entry (an object, or a RawAnnotation), which no entry before it may have.

    Args:
        kind: image, category or annotation, for the message.
        seen: the ids of the entries before it.
    """
    if isinstance(entry, RawAnnotation):
        value = entry.id
    elif isinstance(entry, Mapping):
        value = entry.get("id")
    else:
        raise EntryError(f"an entry of the {kind} list is {entry!r:.40}, not an object")
    number = whole_number(value)
    if number is None:
        raise EntryError(f"{kind} id {value!r:.40} is not a whole number")
    if number in seen:
        raise EntryError(f"{kind} id {number} occurs more than once")
    return number


def read_name(category: Mapping[str, Any]) -> str:
    """The name of a category."""
    name = category.get("name")
    if not isinstance(name, str):
        raise EntryError(f"category {category['id']} has no name")
    return name


def read_image_entry(image: Mapping[str, Any], *, named: bool = True) -> tuple[str, int, int]:
    """File name, height and width of an image entry.

    Args:
        named: whether the file is looked for; else the entry needs no name.
    """
    name = image.get("file_name", image.get("coco_url"))  # LVIS has the address only
    if name is None and not named:
        name = str(image["id"])
    if not isinstance(name, str) or not name or "\0" in name:
        raise EntryError(f"image {image['id']} has no file_name")
    sides = []
    for side in ("height", "width"):
        value = whole_number(image.get(side))
        if value is None or value <= 0:
            raise EntryError(
                f"image {image['id']} ({name}) has {side} {image.get(side)!r:.40}; "
                "it must be a whole number > 0"
            )
        sides.append(value)
    height, width = sides
    if height * width >= _MAX_PIXELS:
        raise EntryError(
            f"image {image['id']} ({name}) has {width}×{height} pixels; at most 2^31 can be used"
        )
    return name, height, width


def read_crowd(entry: RawAnnotation, notes: Notes) -> bool:
    """Whether an annotation is a crowd region."""
    if entry.iscrowd is None:
        notes.add("annotations without iscrowd, read as 0", str(entry))
        return False
    if not isinstance(entry.iscrowd, int | float) or entry.iscrowd not in (0, 1):
        raise EntryError(f"{entry} has iscrowd {entry.iscrowd!r:.40}; write 0, or 1 for a crowd")
    return bool(entry.iscrowd)


def read_area(entry: RawAnnotation) -> float | None:
    """The area in pixels, or None if the file has none or 0."""
    area = entry.area
    if area is not None and (not _is_number(area) or area < 0):
        raise EntryError(f"{entry} has area {area!r:.40}; it must be a number >= 0")
    return float(area) if area else None


def read_box(
    entry: RawAnnotation, height: int, width: int
) -> tuple[float, float, float, float] | None:
    """x, y, width and height in pixels, or None if the file has no box or a flat one."""
    box = entry.bbox
    if box is None:
        return None
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(map(_is_number, box)):
        raise EntryError(
            f"{entry} has bbox {box!r:.80}; it must be four finite numbers x, y, width, height"
        )
    x, y, w, h = box
    if w < 0 or h < 0:
        raise EntryError(
            f"{entry} has bbox {box} with a negative side; COCO boxes are x, y, width, height"
        )
    t = BORDER_TOLERANCE
    if x < -t or y < -t or x + w > width + t or y + h > height + t:
        raise EntryError(
            f"{entry} has bbox {box} outside its {width}×{height} image; "
            "boxes are x, y, width, height"
        )
    return (x, y, w, h) if w and h else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
