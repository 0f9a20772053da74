"""What can be wrong with one entry of a COCO annotation file.

Each function returns what is wrong as half a line, or None; the caller adds the file's name.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from b2inst.data.segmentation import Segmentation, rasterise, run_lengths

#: COCO itself has points and boxes slightly over the border; further out is an error. Pixels.
BORDER_TOLERANCE = 3.0

Entry = Mapping[str, Any]


def category_problem(category: Entry, seen: Container[int]) -> str | None:
    """Whether a category has an id of its own and a name."""
    if problem := _id_problem("category", category, seen):
        return problem
    if not isinstance(category.get("name"), str):
        return f"category {category['id']} has no name"
    return None


def image_problem(image: Entry, seen: Container[int], files: Container[str]) -> str | None:
    """Whether an image has an id of its own, a size and a file.

    Args:
        files: names, relative to the image folder, of the files that are there.
    """
    if problem := _id_problem("image", image, seen):
        return problem
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        return f"image {image['id']} has no file_name"
    for side in ("height", "width"):
        value = image.get(side)
        if not isinstance(value, int) or value <= 0:
            return (
                f"image {image['id']} ({name}) has {side} {value!r}; it must be a whole number > 0"
            )
    if name not in files:
        return f"image {image['id']} ({name}) is missing from the image folder"
    return None


def annotation_problem(
    annotation: Entry, seen: Container[int], sizes: Mapping[int, tuple[int, int]],
    categories: Container[int],
) -> str | None:  # fmt: skip
    """Whether an annotation is complete, in range and refers to things that are there.

    The segmentation is looked at by ``segmentation_problem``.

    Args:
        sizes: (height, width) of the images by id.
        categories: ids of the categories.
    """
    if problem := _id_problem("annotation", annotation, seen):
        return problem
    image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
    if image_id not in sizes:
        return f"annotation {annotation['id']} is for an unknown image, id {image_id!r}"
    if category_id not in categories:
        return f"{_name(annotation)} has an unknown category, id {category_id!r}"
    if (crowd := annotation.get("iscrowd")) not in (0, 1):
        return f"{_name(annotation)} has iscrowd {crowd!r}; write 0, or 1 for a crowd"
    area = annotation.get("area")
    if not _is_number(area) or area < 0:  # type: ignore[operator]
        return f"{_name(annotation)} has area {area!r}; it must be a number >= 0"
    problem = _box_problem(annotation.get("bbox"), *sizes[image_id])  # type: ignore[index]
    return f"{_name(annotation)} {problem}" if problem else None


def segmentation_problem(annotation: Entry, height: int, width: int) -> str | None:
    """Whether the segmentation of an otherwise sound annotation is valid and in its image."""
    problem = _segmentation_problem(annotation.get("segmentation"), height, width)
    return f"{_name(annotation)} {problem}" if problem else None


def has_flat_box(annotation: Entry) -> bool:
    """Whether a sound annotation's box has no pixel; COCO itself has a few of these."""
    return 0 in annotation["bbox"][2:]


def covers_something(segmentation: Segmentation, height: int, width: int) -> bool:
    """Whether a valid segmentation has a pixel."""
    if isinstance(segmentation, dict):
        return bool(run_lengths(segmentation["counts"])[1::2].any())
    return bool(rasterise(segmentation, height, width).any())


def _name(annotation: Entry) -> str:
    return f"annotation {annotation['id']} (image {annotation['image_id']})"


def _id_problem(kind: str, entry: object, seen: Container[int]) -> str | None:
    if not isinstance(entry, Mapping):
        return f"an entry of the {kind} list is {entry!r}, not an object"
    number = entry.get("id")
    if not isinstance(number, int) or isinstance(number, bool):
        return f"{kind} id {number!r} is not a whole number"
    if number in seen:
        return f"{kind} id {number} occurs more than once"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _box_problem(box: object, height: int, width: int) -> str | None:
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f"has bbox {box!r}; it must be four finite numbers x, y, width, height"
    x, y, w, h = box
    if w < 0 or h < 0:
        return f"has bbox {box} with a negative side; COCO boxes are x, y, width, height"
    t = BORDER_TOLERANCE
    if x < -t or y < -t or x + w > width + t or y + h > height + t:
        return f"has bbox {box} outside its {width}×{height} image; boxes are x, y, width, height"
    return None


def _segmentation_problem(segmentation: object, height: int, width: int) -> str | None:
    if isinstance(segmentation, dict):
        return _rle_problem(segmentation, height, width)
    if not isinstance(segmentation, list):
        return "has no segmentation (polygons or run lengths)"
    if not segmentation:
        return "has an empty segmentation"
    for polygon in segmentation:
        if (problem := _polygon_problem(polygon, height, width)) is not None:
            return problem
    return None


def _polygon_problem(polygon: object, height: int, width: int) -> str | None:
    if not isinstance(polygon, list):
        return f"has a polygon that is {polygon!r:.40}, not a list of numbers"
    if not polygon:
        return "has an empty polygon"
    if len(polygon) % 2:
        return f"has a polygon of {len(polygon)} coordinates, an odd number"
    if len(polygon) < 6:
        return f"has a polygon of {len(polygon) // 2} points; it takes at least 3"
    points = _points(polygon)
    if points is None:
        return "has a polygon with coordinates that are not finite numbers"
    for corner in (points.min(axis=0), points.max(axis=0)):
        for axis, limit, value in zip("xy", (width, height), corner.tolist(), strict=True):
            if not -BORDER_TOLERANCE <= value <= limit + BORDER_TOLERANCE:
                return (
                    f"has a polygon point at {axis} = {value:g}, outside its {width}×{height} image"
                )
    return None


def _points(polygon: list[Any]) -> NDArray[np.float64] | None:
    """k×2, or None if there is anything but finite numbers."""
    try:
        points = np.array(polygon)
    except ValueError:  # lists in it
        return None
    if points.ndim != 1 or points.dtype.kind not in "if" or not np.isfinite(points).all():
        return None
    return points.reshape(-1, 2).astype(np.float64)


def _rle_problem(code: Segmentation, height: int, width: int) -> str | None:
    assert isinstance(code, dict)
    if code.get("size") != [height, width]:
        return (
            f"has a run-length code of size {code.get('size')}, but its image's "
            f"height and width are [{height}, {width}]"
        )
    counts = code.get("counts")
    if isinstance(counts, list) and not all(isinstance(n, int) for n in counts):
        return "has run lengths that are not whole numbers"
    if not isinstance(counts, list | str):
        return f"has run-length counts of type {type(counts).__name__}; list or string is meant"
    try:
        runs = run_lengths(counts)
    except ValueError as error:
        return f"has a broken run-length code ({error})"
    if (runs < 0).any() or runs.sum() != height * width:
        return (
            f"has run lengths adding up to {runs.sum()}, not to the "
            f"{height * width} pixels of its {width}×{height} image"
        )
    return None
