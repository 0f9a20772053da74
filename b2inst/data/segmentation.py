"""Objects of annotation files, and their masks."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

#: Compressed run lengths: ``size`` (height, width) and ``counts`` (bytes).
RLE = dict[str, Any]

#: Polygons ``x1 y1 x2 y2 …``, or run lengths.
Segmentation = list[Any] | dict[str, Any]

#: COCO itself has points and boxes slightly over the border; further out is an error. Pixels.
BORDER_TOLERANCE = 3.0


class Annotation(NamedTuple):
    """One object, or a crowd region, of an image."""

    id: int
    label: int  #: contiguous, 0-based
    bbox: tuple[float, float, float, float]  #: x, y, width, height in pixels
    area: float  #: pixels
    segmentation: Segmentation
    crowd: bool
    size: tuple[int, int]  #: height and width of the image

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 in pixels, clipped to the image."""
        x, y, w, h = self.bbox
        height, width = self.size
        return max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))

    @property
    def rle(self) -> RLE:
        """The mask as compressed run lengths."""
        return to_rle(self.segmentation, *self.size)

    def mask(self) -> NDArray[np.uint8]:
        """H×W, 0 or 1, at the size of the image."""
        return coco_mask.decode(self.rle)


def to_rle(segmentation: Segmentation, height: int, width: int) -> RLE:
    """Convert a valid segmentation in any of COCO's forms, drawn as COCO's own tools draw it."""
    if isinstance(segmentation, list):
        codes = coco_mask.frPyObjects(segmentation, height, width)
        return codes[0] if len(codes) == 1 else coco_mask.merge(codes)
    counts = segmentation["counts"]
    if isinstance(counts, list):
        return coco_mask.frPyObjects(segmentation, height, width)
    encoded = counts.encode() if isinstance(counts, str) else counts
    return {"size": [height, width], "counts": encoded}


def measured(code: RLE) -> dict[str, Any]:
    """The fields of an annotation that follow from its mask."""
    return {
        "segmentation": {"size": list(code["size"]), "counts": code["counts"].decode()},
        "bbox": coco_mask.toBbox(code).tolist(),
        "area": int(coco_mask.area(code)),
        "iscrowd": 0,
    }


def read_segmentation(
    value: object, height: int, width: int, note: Callable[[str], None]
) -> Segmentation:
    """Read and check a segmentation.

    Besides COCO's forms, it may consist of polygons with ``exterior`` and ``interiors`` (kwcoco),
    of polygons of points ``[[x, y], …]``, or of one polygon that is not within a list: ``note`` is
    called with a description. Polygons of fewer than three points are left out.

    Raises:
        ValueError: It is none of these, or is not within its image; the message is half a line.
    """
    if isinstance(value, dict) and "exterior" in value:
        value = [value]
    if isinstance(value, dict):
        return _read_run_lengths(value, height, width)
    if not isinstance(value, list):
        raise ValueError("has no segmentation (polygons or run lengths)")
    if value and isinstance(value[0], dict):
        note("polygons of exterior and interiors (holes are cut out)")
        return _cut_holes(value, height, width)
    if value and isinstance(value[0], int | float):
        note("polygons not within a list")
        value = [value]
    polygons = [_read_polygon(part, height, width, note) for part in value]
    if not any(polygons):
        raise ValueError("has an empty segmentation")
    kept = [polygon for polygon in polygons if len(polygon) >= 6]
    if not kept:
        raise ValueError("has no polygon of at least 3 points")
    if len(kept) < len(polygons):
        note("polygons of fewer than 3 points (left out: they cover no pixel)")
    return kept


def covers_certainly(segmentation: Segmentation) -> bool:
    """Whether a polygon is so wide that it covers a pixel; others have to be drawn to know.

    With more area than circumference (pixels), it contains a disc of radius 1.
    """
    polygons = [] if isinstance(segmentation, dict) else segmentation
    drawn = (np.array(polygon, np.float32).reshape(-1, 2) for polygon in polygons)
    return any(cv2.contourArea(points) > cv2.arcLength(points, True) for points in drawn)


def run_lengths(counts: str | bytes) -> NDArray[np.int64]:
    """Return the run lengths of a compressed code, background first; ValueError if it is invalid.

    It stores each run as groups of five bits in printable characters, least
    significant first; from the fourth run on, as the difference to the run before the last.
    """
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
    if not isinstance(counts, list | str | bytes):
        raise ValueError(
            f"has run-length counts of type {type(counts).__name__}; list or string is meant"
        )
    try:
        runs = np.array(counts) if isinstance(counts, list) else run_lengths(counts)
    except ValueError as error:
        raise ValueError(f"has a broken run-length code ({error})") from None
    if runs.dtype.kind not in "if" or (runs % 1 != 0).any():
        raise ValueError("has run lengths that are not whole numbers")
    if isinstance(counts, list):
        runs = runs.astype(np.int64)
        counts = runs.tolist()
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(
            f"has run lengths adding up to {runs.sum()}, not to the "
            f"{height * width} pixels of its {width}×{height} image"
        )
    return to_rle({"counts": counts, "size": [height, width]}, height, width)


def _read_polygon(
    polygon: Any, height: int, width: int, note: Callable[[str], None]
) -> array[float]:
    """x1 y1 x2 y2 …, of any number of points."""
    nested = polygon and isinstance(polygon, list) and isinstance(polygon[0], list)
    if nested and all(isinstance(point, list) and len(point) == 2 for point in polygon):
        note("polygons written as points [x, y]")
        polygon = [number for point in polygon for number in point]
    try:
        points = polygon if isinstance(polygon, array) else array("d", polygon)
    except (TypeError, OverflowError):
        points = array("d", [math.nan])
    if not math.isfinite(sum(points)):
        raise ValueError(
            "has a polygon of other things than finite numbers; write [[x1, y1, x2, y2, …], …]"
        )
    if len(points) % 2:
        raise ValueError(f"has a polygon of {len(points)} coordinates, an odd number")
    right, below = width + BORDER_TOLERANCE, height + BORDER_TOLERANCE
    if points and (
        min(points) < -BORDER_TOLERANCE or max(points[::2]) > right or max(points[1::2]) > below
    ):
        outside = [n < -BORDER_TOLERANCE or n > (right, below)[k % 2] for k, n in enumerate(points)]
        k = outside.index(True)
        raise ValueError(
            f"has a polygon point at {'xy'[k % 2]} = {points[k]:g}, outside its "
            f"{width}×{height} image"
        )
    return points


def _cut_holes(parts: list[dict[str, Any]], height: int, width: int) -> RLE:
    def draw(polygons: list[object]) -> NDArray[np.uint8]:
        read = [_read_polygon(polygon, height, width, lambda _: None) for polygon in polygons]
        drawn = [polygon for polygon in read if len(polygon) >= 6]
        if not drawn:
            return np.zeros((height, width), dtype=np.uint8)
        return coco_mask.decode(to_rle(drawn, height, width))

    mask = np.zeros((height, width), dtype=np.uint8)
    for part in parts:
        if not isinstance(part, dict) or "exterior" not in part:
            raise ValueError("has polygons with and without exterior")
        holes = part.get("interiors") or []
        if not isinstance(holes, list):
            raise ValueError(f"has interiors {holes!r:.40}, not a list of polygons")
        mask |= draw([part["exterior"]]) & ~draw(holes)
    return coco_mask.encode(np.asfortranarray(mask))
