"""COCO's three ways to write a mask: polygons, run lengths as a list, compressed run lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

#: One of: a list of flat polygons ``[x1, y1, x2, y2, …]`` (float arrays once read), or a dict with
#: ``size`` (height, width) and ``counts`` (list of int, or the compressed form as str or bytes).
Segmentation = list[Any] | dict[str, Any]


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


def run_lengths(counts: list[int] | str | bytes) -> NDArray[np.int64]:
    """The run lengths of a code, background first.

    The compressed form stores each run as groups of five bits in printable characters, least
    significant first; from the fourth run on, as the difference to the run before the last.

    Raises:
        ValueError: the characters are not such a code.
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
