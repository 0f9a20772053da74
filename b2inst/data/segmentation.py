"""Masks in the forms of annotation files, read as compressed run-length codes."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

#: Compressed run lengths: ``size`` (height, width) and ``counts`` (bytes).
RLE = dict[str, Any]

#: COCO itself has points and boxes slightly over the border; further out is an error. Pixels.
BORDER_TOLERANCE = 3.0


def to_rle(segmentation: list[Any] | dict[str, Any], height: int, width: int) -> RLE:
    """Convert a valid segmentation in any of COCO's forms, drawn as COCO's own tools draw it."""
    if isinstance(segmentation, dict):
        counts = segmentation["counts"]
        if isinstance(counts, list):
            return coco_mask.frPyObjects(segmentation, height, width)
        encoded = counts.encode() if isinstance(counts, str) else counts
        return {"size": [height, width], "counts": encoded}
    return _draw([np.asarray(polygon, dtype=np.float64) for polygon in segmentation], height, width)


def measured(code: RLE) -> dict[str, Any]:
    """The fields of an annotation that follow from its mask."""
    return {
        "segmentation": {"size": list(code["size"]), "counts": code["counts"].decode()},
        "bbox": coco_mask.toBbox(code).tolist(),
        "area": int(coco_mask.area(code)),
        "iscrowd": 0,
    }


def read_segmentation(value: object, height: int, width: int, note: Callable[[str], None]) -> RLE:
    """Read and check a segmentation.

    Besides COCO's forms, it may consist of polygons with ``exterior`` and ``interiors`` (kwcoco),
    of polygons of points ``[[x, y], …]``, or of one polygon that is not within a list. Polygons
    of fewer than three points are left out.

    Args:
        note: Called with a description of each form that is not COCO's.

    Raises:
        ValueError: It is none of these, or is not within its image; the message is half a line.
    """
    if isinstance(value, dict) and "exterior" in value:
        value = [value]
    if isinstance(value, dict):
        return _read_run_lengths(value, height, width)
    if not isinstance(value, list):
        raise ValueError("has no segmentation (polygons or run lengths)")
    if value and all(isinstance(part, dict) and "exterior" in part for part in value):
        note("polygons of exterior and interiors (holes are cut out)")
        return _cut_holes(value, height, width)
    if value and all(isinstance(part, int | float) for part in value):
        note("polygons not within a list")
        value = [value]
    polygons = [_read_polygon(part, height, width, note) for part in value]
    if not any(map(len, polygons)):
        raise ValueError("has an empty segmentation")
    kept = [polygon for polygon in polygons if len(polygon) >= 6]
    if not kept:
        raise ValueError("has no polygon of at least 3 points")
    if len(kept) < len(polygons):
        note("polygons of fewer than 3 points (left out: they cover no pixel)")
    return _draw(kept, height, width)


def run_lengths(counts: list[int] | str | bytes) -> NDArray[np.int64]:
    """Return the run lengths of a code, background first; ValueError if it is invalid.

    The compressed form stores each run as groups of five bits in printable characters, least
    significant first; from the fourth run on, as the difference to the run before the last.
    """
    if isinstance(counts, list):
        return np.asarray(counts, dtype=np.int64)
    text = counts.encode("ascii") if isinstance(counts, str) else counts
    groups = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    if not len(groups):
        return np.zeros(0, dtype=np.int64)
    ends = np.flatnonzero(groups & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    invalid = groups.min() < 0 or groups.max() > 63 or groups[-1] & 32
    if invalid or (ends - starts).max() > 8:
        raise ValueError("not a compressed run-length code")
    lengths = ends - starts + 1
    place = 5 * (np.arange(len(groups)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((groups & 31) << place, starts)
    runs -= np.where(groups[ends] & 16, np.int64(1) << (5 * lengths), 0)  # negative
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _read_run_lengths(code: dict[str, Any], height: int, width: int) -> RLE:
    size, counts = code.get("size"), code.get("counts")
    if size != [height, width] and size != (height, width):  # 480.0 equals 480
        raise ValueError(
            f"has a run-length code of size {size}, but its image's "
            f"height and width are [{height}, {width}]"
        )
    if isinstance(counts, list):
        if not all(isinstance(n, int | float) and n == n // 1 for n in counts):
            raise ValueError("has run lengths that are not whole numbers")
        counts = [int(n) for n in counts]
    elif not isinstance(counts, str | bytes):
        raise ValueError(
            f"has run-length counts of type {type(counts).__name__}; list or string is meant"
        )
    try:
        runs = run_lengths(counts)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"has a broken run-length code ({error})") from None
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(
            f"has run lengths adding up to {runs.sum()}, not to the "
            f"{height * width} pixels of its {width}×{height} image"
        )
    return to_rle({"size": [height, width], "counts": counts}, height, width)


def _read_polygon(
    polygon: object, height: int, width: int, note: Callable[[str], None]
) -> NDArray[np.float64]:
    """x1 y1 x2 y2 …, of any number of points."""
    if not isinstance(polygon, list | array):
        raise ValueError(f"has a polygon that is {polygon!r:.40}, not a list of numbers")
    if not polygon:
        return np.zeros(0)
    if isinstance(polygon, list) and all(isinstance(p, list) and len(p) == 2 for p in polygon):
        note("polygons written as points [x, y]")
        polygon = [number for point in polygon for number in point]
    try:
        points = np.array(polygon)
    except ValueError:  # lists of different lengths in it
        points = np.array(None)
    if points.ndim != 1 or points.dtype.kind not in "if" or not np.isfinite(points).all():
        raise ValueError(
            "has a polygon of other things than finite numbers; write [[x1, y1, x2, y2, …], …]"
        )
    if len(points) % 2:
        raise ValueError(f"has a polygon of {len(points)} coordinates, an odd number")
    limits = np.array([width, height]) + BORDER_TOLERANCE
    outside = (points.reshape(-1, 2) < -BORDER_TOLERANCE) | (points.reshape(-1, 2) > limits)
    if outside.any():
        k = int(outside.argmax())
        raise ValueError(
            f"has a polygon point at {'xy'[k % 2]} = {points[k]:g}, outside its "
            f"{width}×{height} image"
        )
    return points.astype(np.float64)


def _draw(polygons: list[NDArray[np.float64]], height: int, width: int) -> RLE:
    codes = coco_mask.frPyObjects(polygons, height, width)
    return codes[0] if len(codes) == 1 else coco_mask.merge(codes)


def _cut_holes(parts: list[dict[str, Any]], height: int, width: int) -> RLE:
    def draw(polygons: list[object]) -> NDArray[np.uint8]:
        read = [_read_polygon(polygon, height, width, lambda _: None) for polygon in polygons]
        drawn = [polygon for polygon in read if len(polygon) >= 6]
        if not drawn:
            return np.zeros((height, width), dtype=np.uint8)
        return coco_mask.decode(_draw(drawn, height, width))

    mask = np.zeros((height, width), dtype=np.uint8)
    for part in parts:
        holes = part.get("interiors") or []
        if not isinstance(holes, list):
            raise ValueError(f"has interiors {holes!r:.40}, not a list of polygons")
        mask |= draw([part["exterior"]]) & ~draw(holes)
    return coco_mask.encode(np.asfortranarray(mask))
