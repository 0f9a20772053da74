"""The ways in which annotation files write a mask, and their pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

#: One of: a list of flat polygons ``[x1, y1, x2, y2, …]`` (float arrays once read), or a dict with
#: ``size`` (height, width) and ``counts`` (list of int, or the compressed form as str or bytes).
Segmentation = list[Any] | dict[str, Any]

#: COCO itself has points and boxes slightly over the border; further out is an error. Pixels.
BORDER_TOLERANCE = 3.0


def rasterise(segmentation: Segmentation, height: int, width: int) -> NDArray[np.uint8]:
    """A valid segmentation as H×W uint8, 0 or 1, drawn as COCO's own tools draw it."""
    return coco_mask.decode(to_rle(segmentation, height, width))


def to_rle(segmentation: Segmentation, height: int, width: int) -> dict[str, Any]:
    """A valid segmentation as one compressed run-length code (``counts`` as bytes)."""
    if isinstance(segmentation, list):
        polygons = [np.asarray(polygon, dtype=np.float64).tolist() for polygon in segmentation]
        return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    counts = segmentation["counts"]
    if isinstance(counts, list):
        return coco_mask.frPyObjects(segmentation, height, width)
    return {
        "size": [height, width],
        "counts": counts.encode() if isinstance(counts, str) else counts,
    }


def measured(code: dict[str, Any]) -> dict[str, Any]:
    """What an annotation says of a mask, given as one compressed run-length code."""
    return {
        "segmentation": {"size": list(code["size"]), "counts": code["counts"].decode()},
        "bbox": coco_mask.toBbox(code).tolist(),
        "area": int(coco_mask.area(code)),
        "iscrowd": 0,
    }


def read_segmentation(
    value: object, height: int, width: int, note: Callable[[str], None]
) -> Segmentation:
    """A segmentation as a file has it, checked, in one of COCO's forms.

    Polygons of ``exterior`` and ``interiors`` (kwcoco) or of points ``[[x, y], …]``, one that is
    not within a list, and run lengths such as 480.0 are read as they are meant. Polygons of fewer
    than three points are left out.

    Args:
        note: called with the name of each form that is not COCO's.

    Raises:
        ValueError: it is none of these, or is not within its image; the message is half a line.
    """
    if isinstance(value, dict) and "exterior" in value:
        value = [value]
    if isinstance(value, dict):
        return _read_run_lengths(value, height, width, note)
    if not isinstance(value, list):
        raise ValueError("has no segmentation (polygons or run lengths)")
    if all(isinstance(part, dict) and "exterior" in part for part in value) and value:
        note("polygons of exterior and interiors (holes are cut out)")
        return _cut_holes(value, height, width)
    if value and all(isinstance(part, int | float) for part in value):
        note("polygons not within a list")
        value = [value]
    polygons = [_read_polygon(part, height, width, note) for part in value]
    kept = [polygon for polygon in polygons if len(polygon) >= 6]
    if not any(len(polygon) for polygon in polygons):
        raise ValueError("has an empty segmentation")
    if not kept:
        raise ValueError("has no polygon of at least 3 points")
    if len(kept) < len(polygons):
        note("polygons of fewer than 3 points (left out: they cover no pixel)")
    return kept


def run_lengths(counts: list[int] | str | bytes) -> NDArray[np.int64]:
    """The run lengths of a code, background first; ValueError if it is none.

    The compressed form stores each run as groups of five bits in printable characters, least
    significant first; from the fourth run on, as the difference to the run before the last.
    """
    if isinstance(counts, list):
        return np.asarray(counts, dtype=np.int64)
    text = counts.encode("ascii") if isinstance(counts, str) else counts
    groups = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    if not len(groups):
        return np.zeros(0, dtype=np.int64)
    if groups.min() < 0 or groups.max() > 63 or groups[-1] & 32:
        raise ValueError("not a compressed run-length code")
    ends = np.flatnonzero(groups & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 8:
        raise ValueError("not a compressed run-length code")
    place = 5 * (np.arange(len(groups)) - np.repeat(starts, ends - starts + 1))
    runs = np.add.reduceat((groups & 31) << place, starts)
    negative = groups[ends] & 16 != 0
    runs -= np.where(negative, np.int64(1) << (5 * (ends - starts + 1)), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _read_run_lengths(
    code: dict[str, Any], height: int, width: int, note: Callable[[str], None]
) -> Segmentation:
    size, counts = code.get("size"), code.get("counts")
    if size != [height, width] and size != (height, width):  # 480.0 equals 480
        raise ValueError(
            f"has a run-length code of size {size}, but its image's "
            f"height and width are [{height}, {width}]"
        )
    if not isinstance(counts, list | str | bytes):
        raise ValueError(
            f"has run-length counts of type {type(counts).__name__}; list or string is meant"
        )
    numbers = counts if isinstance(counts, list) else []
    if not all(isinstance(n, int | float) and n == n // 1 for n in numbers):
        raise ValueError("has run lengths that are not whole numbers")
    if any(isinstance(n, float) for n in (*numbers, *size)):
        note("numbers with a decimal point in run lengths")
        counts = [int(n) for n in numbers] or counts
    try:
        runs = run_lengths(counts)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"has a broken run-length code ({error})") from None
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(
            f"has run lengths adding up to {runs.sum()}, not to the "
            f"{height * width} pixels of its {width}×{height} image"
        )
    return {"size": [height, width], "counts": counts}


def _read_polygon(
    polygon: object, height: int, width: int, note: Callable[[str], None]
) -> NDArray[np.float64]:
    """x1 y1 x2 y2 …, of any number of points."""
    if not isinstance(polygon, list):
        raise ValueError(f"has a polygon that is {polygon!r:.40}, not a list of numbers")
    if polygon and all(isinstance(point, list) and len(point) == 2 for point in polygon):
        note("polygons written as points [x, y]")
        polygon = [number for point in polygon for number in point]
    try:
        points = np.array(polygon or np.zeros(0))
    except ValueError:  # lists of different lengths in it
        points = np.array(None)
    if points.ndim != 1 or points.dtype.kind not in "if" or not np.isfinite(points).all():
        raise ValueError(
            "has a polygon of other things than finite numbers; write [[x1, y1, x2, y2, …], …]"
        )
    if len(points) % 2:
        raise ValueError(f"has a polygon of {len(points)} coordinates, an odd number")
    for k, value in enumerate(points.tolist()):
        axis, limit = ("y", height) if k % 2 else ("x", width)
        if not -BORDER_TOLERANCE <= value <= limit + BORDER_TOLERANCE:
            raise ValueError(
                f"has a polygon point at {axis} = {value:g}, outside its {width}×{height} image"
            )
    return points.astype(np.float64)


def _cut_holes(parts: list[dict[str, Any]], height: int, width: int) -> Segmentation:
    def draw(polygons: list[object]) -> NDArray[np.uint8]:
        read = [_read_polygon(p, height, width, lambda _: None) for p in polygons]
        drawn = [polygon for polygon in read if len(polygon) >= 6]
        return rasterise(drawn, height, width) if drawn else np.zeros((height, width), np.uint8)

    mask = np.zeros((height, width), dtype=np.uint8)
    for part in parts:
        holes = part.get("interiors") or []
        if not isinstance(holes, list):
            raise ValueError(f"has interiors {holes!r:.40}, not a list of polygons")
        mask |= draw([part["exterior"]]) & ~draw(holes)
    code = coco_mask.encode(np.asfortranarray(mask))
    return {"size": [height, width], "counts": code["counts"].decode()}
