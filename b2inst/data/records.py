"""An image of a data set and its annotations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from b2inst.data.segmentation import Segmentation, rasterise


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image of the set, not yet read."""

    id: int
    path: Path
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Annotation:
    """One object, or a crowd region, of an image."""

    id: int
    label: int  #: contiguous, 0-based
    bbox: tuple[float, float, float, float]  #: x, y, width, height in pixels
    area: float  #: pixels
    segmentation: Segmentation  #: polygons as float64 arrays, or a run-length dict
    crowd: bool
    size: tuple[int, int]  #: height and width of the image

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x1 y1 x2 y2 in pixels, clipped to the image."""
        x, y, w, h = self.bbox
        height, width = self.size
        return max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))

    def mask(self, height: int, width: int) -> NDArray[np.uint8]:
        """H×W, 0 or 1, at the size of the image."""
        return rasterise(self.segmentation, height, width)
