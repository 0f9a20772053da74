"""The polygons of all annotations of a file, measured together.

COCO's train2017 has some 900,000 of them; measured one by one they take longer than reading the
file does.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


class Polygons:
    """Polygons of N annotations, in one array of points.

    An annotation has none here if its segmentation is anything but a list of lists of at least
    three pairs of numbers.

    Args:
        segmentations: of the annotations, whatever the file has there.
    """

    def __init__(self, segmentations: Iterable[object]) -> None:
        numbers = array("d")
        ends = array("q", [0])  # of the polygons, in numbers
        first = array("q", [0])  # polygons before each annotation
        for segmentation in segmentations:
            before = len(numbers), len(ends)
            try:
                for polygon in segmentation if isinstance(segmentation, list) else ():
                    if len(polygon) < 6 or len(polygon) % 2:
                        raise ValueError
                    numbers.fromlist(polygon)  # runs in C and refuses all but numbers
                    ends.append(len(numbers))
            except (TypeError, ValueError, OverflowError):
                del numbers[before[0] :], ends[before[1] :]
            first.append(len(ends) - 1)
        self._points = np.frombuffer(numbers).reshape(-1, 2)
        self._ends = np.array(ends) // 2
        self._first = np.array(first)

    def __getitem__(self, k: int) -> list[NDArray[np.float64]]:
        """Annotation k's polygons, each x1 y1 x2 y2 …, in memory of their own."""
        ends = self._ends[self._first[k] : self._first[k + 1] + 1]
        return [self._points[a:b].flatten() for a, b in pairwise(ends)]

    def sound(
        self, sizes: NDArray[np.float64], *, tolerance: float, area: float
    ) -> NDArray[np.bool_]:
        """N: annotations none of whose polygons leaves its image, and of which one has an area.

        Args:
            sizes: N×2, width and height of the images; NaN where there is none.
            tolerance: pixels that a point may be outside.
            area: pixels that one polygon must have, and a pixel of width and height in its image.
        """
        counts = np.diff(self._first)
        if not counts.any():
            return counts > 0
        starts, last = self._ends[:-1], self._ends[1:] - 1
        low, high = (f.reduceat(self._points, starts) for f in (np.minimum, np.maximum))
        limit = np.repeat(sizes, counts, axis=0)
        inside = ((low >= -tolerance) & (high <= limit + tolerance)).all(axis=1)

        following = np.roll(self._points, -1, axis=0)
        following[last] = self._points[starts]
        with np.errstate(all="ignore"):  # what is not finite is outside of its image anyway
            cross = self._points[:, 0] * following[:, 1] - following[:, 0] * self._points[:, 1]
            areas = np.abs(np.add.reduceat(cross, starts)) / 2  # shoelace formula
        sides = np.minimum(high, limit) - np.maximum(low, 0)
        broad = (sides.min(axis=1) >= 1) & (areas >= area)

        owner = np.repeat(np.arange(len(counts)), counts)
        leaves, covers = (
            np.bincount(owner[chosen], minlength=len(counts)) > 0 for chosen in (~inside, broad)
        )
        return covers & ~leaves
