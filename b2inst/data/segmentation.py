"""Objects of annotation files, and their masks."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

#: Compressed run lengths: ``size`` (height, width) and ``counts`` (bytes).
RLE = dict[str, Any]

#: Polygons ``x1 y1 x2 y2 …``, or run lengths.
Segmentation = list[Any] | dict[str, Any]

#: COCO itself has points and boxes slightly over the border; further out is an error. Pixels.
BORDER_TOLERANCE = 3.0

#: Groups of five bits, in printable characters: up to six that are continued, and a last one. A
#: possessive repetition (``*+``) keeps nothing to go back to, which would take much memory.
_CODE = re.compile(rb"(?:[P-o]{0,6}[0-O])*+")


class Annotation(NamedTuple):
    """One object, or a crowd region, of an image."""

    id: int
    label: int  #: contiguous, 0-based
    bbox: tuple[float, float, float, float]  #: x, y, width, height in pixels
    area: float  #: pixels
    rle: RLE  #: the mask, at the size of the image
    crowd: bool

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 in pixels, clipped to the image."""
        x, y, w, h = self.bbox
        height, width = self.rle["size"]
        return max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))

    def mask(self) -> NDArray[np.uint8]:
        """H×W, 0 or 1."""
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


def fits_mask(box: Sequence[float], code: RLE, segmentation: Segmentation) -> bool:
    """Whether a box (x, y, width, height) is roughly that of the mask that a segmentation draws.

    It is if their IoU is at least 0.5, or no side differs by more than three pixels. The box of all
    points of the polygons, which is COCO's, does as well: some parts are too thin for a pixel.
    """

    def near(other: Sequence[float]) -> bool:
        (x, y, w, h), (u, v, p, q) = box, other
        apart = (x - u, y - v, x + w - u - p, y + h - v - q)
        if max(apart) <= BORDER_TOLERANCE and min(apart) >= -BORDER_TOLERANCE:
            return True
        across, down = min(x + w, u + p) - max(x, u), min(y + h, v + q) - max(y, v)
        return 3 * max(across, 0) * max(down, 0) >= w * h + p * q  # IoU >= 0.5, without a division

    if near(coco_mask.toBbox(code).tolist()):
        return True
    parts = segmentation if isinstance(segmentation, list) else [segmentation]
    outlines = [part.get("exterior", ()) if isinstance(part, dict) else part for part in parts]
    points = np.concatenate([np.ravel(outline) for outline in outlines]).reshape(-1, 2)
    return len(points) > 0 and near(np.r_[points.min(axis=0), np.ptp(points, axis=0)].tolist())


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
    of polygons of points ``[[x, y], …]``, or of one of either that is not within a list: ``note``
    is called with a description. Polygons of fewer than three points are left out.

    Raises:
        ValueError: It is none of these, or is not within its image; the message is half a line.
    """
    if isinstance(value, dict) and "exterior" in value:
        value = [value]
    alone = value[0] if isinstance(value, list) and len(value) == 1 else None
    if isinstance(alone, dict) and "counts" in alone:
        note("run lengths within a list")
        value = alone
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
    elif len(value) >= 3 and all(isinstance(p, list | array) and len(p) == 2 for p in value):
        note("polygons written as points [x, y], not within a list")
        value = [[number for point in value for number in point]]
    polygons = [_read_polygon(part, height, width, note) for part in value]
    kept = [polygon for polygon in polygons if len(polygon) >= 6]
    if not kept:
        raise ValueError("has no polygon of at least 3 points")
    if len(kept) < len(polygons):
        note("polygons of fewer than 3 points (left out: they cover no pixel)")
    return to_rle(kept, height, width)


def run_lengths(counts: str | bytes) -> NDArray[np.int64]:
    """Return the run lengths of a compressed code, background first; ValueError if it is invalid.

    Each is stored as groups of five bits, least significant first; from the fourth on, as the
    difference from the one before the last.
    """
    characters = counts.encode("ascii") if isinstance(counts, str) else counts
    if not _CODE.fullmatch(characters):
        raise ValueError("not a compressed run-length code")
    groups = np.frombuffer(characters, dtype=np.uint8).astype(np.int64) - 48
    last = groups < 32  # of the groups of a number; its highest bit is the sign
    ends = np.flatnonzero(last) + 1
    sizes = np.diff(ends, prepend=0)
    shifts = 5 * (np.arange(len(groups)) - np.repeat(ends - sizes, sizes))
    runs = np.add.reduceat((groups & 31) << shifts, ends - sizes)
    runs -= (groups[last] & 16) << (5 * sizes - 4)
    runs[1::2] = runs[1::2].cumsum()
    runs[2::2] = runs[2::2].cumsum()
    return runs


def _read_run_lengths(code: Any, height: int, width: int) -> RLE:
    size, counts = code.get("size"), code.get("counts")
    if size != [height, width] and size != (height, width):  # 480.0 equals 480
        raise ValueError(
            f"has a run-length code of size {size}, but its image's "
            f"height and width are [{height}, {width}]"
        )
    try:
        runs = np.array(counts if isinstance(counts, list) else run_lengths(counts))
    except (TypeError, ValueError) as error:
        raise ValueError(f"has a broken run-length code ({error})") from None
    if runs.dtype.kind not in "if" or (runs % 1 != 0).any():
        raise ValueError("has run lengths that are not whole numbers")
    if (runs < 0).any():
        raise ValueError(f"has a negative run length, {runs.min():g}")
    if runs.sum() != height * width:
        raise ValueError(
            f"has run lengths adding up to {runs.sum():.0f}, not to the "
            f"{height * width} pixels of its {width}×{height} image"
        )
    return to_rle({"counts": runs.astype(int).tolist(), "size": [height, width]}, height, width)


def _read_polygon(
    polygon: Any, height: int, width: int, note: Callable[[str], None]
) -> NDArray[np.float64]:
    """x1 y1 x2 y2 …, of any number of points."""
    nested = polygon and isinstance(polygon, list) and isinstance(polygon[0], list)
    if nested and all(isinstance(point, list) and len(point) == 2 for point in polygon):
        note("polygons written as points [x, y]")
        polygon = [number for point in polygon for number in point]
    try:
        points = np.asarray(array("d", polygon)).reshape(-1, 2)  # unlike NumPy, takes no strings
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            "has a polygon that is not [x1, y1, x2, y2, …] with two numbers a point"
        ) from None
    end = (width + BORDER_TOLERANCE, height + BORDER_TOLERANCE)
    inside = ((points >= -BORDER_TOLERANCE) & (points <= end)).all(axis=1)  # NaN is not
    if not inside.all():
        x, y = points[~inside][0]
        raise ValueError(
            f"has a polygon point at x = {x:g}, y = {y:g}, outside its {width}×{height} image"
        )
    return points.ravel()


def _cut_holes(parts: list[dict[str, Any]], height: int, width: int) -> RLE:
    def draw(polygons: list[object]) -> NDArray[np.uint8]:
        read = [_read_polygon(polygon, height, width, lambda _: None) for polygon in polygons]
        drawn = [polygon for polygon in read if len(polygon) >= 6]
        return coco_mask.decode(to_rle(drawn or [[0.0] * 6], height, width))  # a point: no pixel

    mask = np.zeros((height, width), dtype=np.uint8)
    for part in parts:
        if not isinstance(part, dict) or "exterior" not in part:
            raise ValueError("has a part that is neither a list of numbers nor has an exterior")
        holes = part.get("interiors") or []
        if not isinstance(holes, list):
            raise ValueError(f"has interiors {holes!r:.40}, not a list of polygons")
        mask |= draw([part["exterior"]]) & ~draw(holes)
    return coco_mask.encode(np.asfortranarray(mask))
