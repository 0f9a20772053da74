"""The polygons of all annotations of a file, packed into one array and measured together.

COCO's train2017 has some 900,000 of them; one by one they take more time to measure, and as Python
numbers four times the memory.
"""

from __future__ import annotations

from array import array
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


class Polygons:
    """Polygons of N annotations. Append first, then measure or read."""

    def __init__(self) -> None:
        self._numbers = array("d")
        self._ends = array("q", [0])  # of the polygons, in numbers
        self._first = array("q", [0])  # polygons before each annotation

    def append(self, segmentation: object) -> int | None:
        """Pack the polygons of one annotation.

        Returns:
            Their position, or None (nothing is packed) if the segmentation is anything but a list
            of lists of at least three pairs of numbers.
        """
        if not isinstance(segmentation, list) or not segmentation:
            return None
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
            return None
        self._first.append(len(ends) - 1)
        return len(self._first) - 2

    def __len__(self) -> int:
        return len(self._first) - 1

    def __getitem__(self, k: int) -> list[NDArray[np.float64]]:
        """Annotation k's polygons, each x1 y1 x2 y2 …, in memory of their own."""
        ends = self._ends[self._first[k] : self._first[k + 1] + 1]
        return [np.array(self._numbers[a:b]) for a, b in pairwise(ends)]

    def sound(
        self, sizes: NDArray[np.float64], *, tolerance: float, area: float
    ) -> NDArray[np.bool_]:
        """Whether no polygon of an annotation leaves its image, and one has an area.

        Args:
            sizes: N×2, width and height of the images; NaN where there is none.
            tolerance: pixels that a point may be outside.
            area: pixels that one polygon must have, and a pixel of width and height in its image.

        Returns:
            N, one for each annotation.
        """
        if not len(self):
            return np.zeros(0, dtype=bool)
        points = np.frombuffer(self._numbers).reshape(-1, 2)
        ends = np.frombuffer(self._ends, dtype=np.int64) // 2
        first = np.frombuffer(self._first, dtype=np.int64)
        counts = first[1:] - first[:-1]
        starts, last = ends[:-1], ends[1:] - 1
        low, high = (f.reduceat(points, starts) for f in (np.minimum, np.maximum))
        limit = np.repeat(sizes, counts, axis=0)
        inside = ((low >= -tolerance) & (high <= limit + tolerance)).all(axis=1)

        following = np.roll(points, -1, axis=0)
        following[last] = points[starts]
        with np.errstate(all="ignore"):  # what is not finite is outside of its image anyway
            cross = points[:, 0] * following[:, 1]
            cross -= following[:, 0] * points[:, 1]
            areas = np.abs(np.add.reduceat(cross, starts)) / 2  # shoelace formula
        sides = np.minimum(high, limit) - np.maximum(low, 0)
        broad = (sides.min(axis=1) >= 1) & (areas >= area)

        owner = np.repeat(np.arange(len(counts)), counts)
        leaves, covers = (
            np.bincount(owner[chosen], minlength=len(counts)) > 0 for chosen in (~inside, broad)
        )
        return covers & ~leaves
