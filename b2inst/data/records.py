"""An image of a data set and its annotations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from b2inst.data.segmentation import RLE


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
    segmentation: RLE  #: at the size of the image
    crowd: bool

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 in pixels, clipped to the image."""
        x, y, w, h = self.bbox
        height, width = self.segmentation["size"]
        return max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))

    def mask(self) -> NDArray[np.uint8]:
        """H×W, 0 or 1, at the size of the image."""
        return coco_mask.decode(self.segmentation)
