"""A part of an image at the pixels it is shown with: the image there, maps over it, masks in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb
from numpy.typing import NDArray
from torch import Tensor

from b2inst.ops.boundary import laplacian_boundary
from b2inst.viz.draw import Picture
from b2inst.viz.explore.composition import Extent
from b2inst.viz.explore.tiles import BOUNDARY

Values = NDArray[Any]

#: What colour-blind readers tell apart: ColorBrewer's BrBG around 0, cividis for 0 to 1.
SIGNED = colormaps["BrBG"]
UNIT = colormaps["cividis"]
LINE = LinearSegmentedColormap.from_list("boundary", ["white", BOUNDARY, "#4A1F00"])

MASK, TRUTH, GAINED, LOST = "#0072B2", "#009E73", "#56B4E9", "#CC79A7"

_BEYOND = 236  # grey level where a map does not reach


@dataclass(frozen=True)
class Lens:
    """A window of an image, ``side`` pixels across."""

    image: Picture
    window: Extent  #: in pixels of the image
    side: int

    @classmethod
    def whole(cls, image: Picture, side: int) -> Self:
        """The whole image, its longer side ``side`` pixels."""
        height, width = image.shape[:2]
        across = side if width >= height else round(side * width / height)
        return cls(image, (0.0, float(width), 0.0, float(height)), max(across, 1))

    @classmethod
    def around(cls, image: Picture, box: Sequence[float], side: int) -> Self:
        """A square around a box x1 y1 x2 y2, somewhat larger."""
        x1, y1, x2, y2 = box
        half = max(x2 - x1, y2 - y1, 8.0) * 0.65
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        return cls(image, (x - half, x + half, y - half, y + half), side)

    def sample(self, values: Values, extent: Extent) -> Values:
        """The cells of a map under each pixel, as they are (nearest).

        Args:
            values: h×w or h×w×3.
            extent: where the map lies, in pixels of the image.

        Returns:
            Float, rows×side; NaN where the map does not reach.
        """
        left, right, top, bottom = self.window
        rows = max(round(self.side * (bottom - top) / (right - left)), 1)
        y, inside_y = _cells(top, bottom, rows, extent[2], extent[3], values.shape[0])
        x, inside_x = _cells(left, right, self.side, extent[0], extent[1], values.shape[1])
        sampled = values[y][:, x].astype(np.float32)
        sampled[~inside_y] = np.nan
        sampled[:, ~inside_x] = np.nan
        return sampled

    def photo(self, *, faded: float = 0.0) -> Picture:
        """The image, mixed with white by ``faded``."""
        colours = self.sample(self.image, self._image_extent)
        mixed = colours + (255 - colours) * faded
        return np.where(np.isnan(mixed), _BEYOND, mixed).astype(np.uint8)

    def tinted(self, picture: Picture, mask: Tensor, colour: str, opacity: float = 0.5) -> Picture:
        """A picture of this window with a mask of the image (H×W bool) tinted and outlined."""
        return self.outlined(_tint(picture, self._inside(mask), colour, opacity), mask, colour)

    def shaded(self, picture: Picture, values: Values, colour: str) -> Picture:
        """A picture of this window tinted by values in [0, 1] at its pixels; NaN: not at all."""
        opacity = np.nan_to_num(values)[..., None] * 0.6
        return (picture + (np.array(to_rgb(colour)) * 255 - picture) * opacity).astype(np.uint8)

    def outlined(
        self, picture: Picture, mask: Tensor, colour: str, *, thick: bool = False
    ) -> Picture:
        """A picture of this window with the outline of a mask of the image (H×W bool).

        Args:
            thick: drawn on both sides of the outline.
        """
        inside = torch.from_numpy(self._inside(mask))
        line = laplacian_boundary(inside)
        if thick:
            line |= laplacian_boundary(~inside)
        return _tint(picture, line.numpy(), colour, 1.0)

    def _inside(self, mask: Tensor) -> Values:
        return np.nan_to_num(self.sample(mask.numpy(), self._image_extent)) > 0.5

    @property
    def _image_extent(self) -> Extent:
        height, width = self.image.shape[:2]
        return (0.0, float(width), 0.0, float(height))


def signed(values: Values, limit: float) -> Picture:
    """Teal where positive, brown where negative, white at 0, full at ±limit; grey for NaN."""
    return coloured(values / (2 * limit) + 0.5, SIGNED)


def coloured(values: Values, colours: Colormap) -> Picture:
    """Values in [0, 1] by a colour map; grey for NaN."""
    picture = colours(np.nan_to_num(values), bytes=True)[..., :3].copy()
    picture[np.isnan(values)] = _BEYOND
    return picture


def common_limit(maps: Iterable[Values]) -> float:
    """What ± is full colour for several signed maps: all but 1 % of their values are within."""
    values = np.concatenate([np.abs(m[~np.isnan(m)]) for m in maps])
    return max(float(np.percentile(values, 99)), 1e-6) if values.size else 1.0


def _tint(picture: Picture, inside: Values, colour: str, opacity: float) -> Picture:
    painted = picture.astype(np.float32)
    painted[inside] += (np.array(to_rgb(colour)) * 255 - painted[inside]) * opacity
    return painted.astype(np.uint8)


def _cells(
    start: float, end: float, count: int, first: float, last: float, cells: int
) -> tuple[Values, Values]:
    positions = start + (np.arange(count) + 0.5) * (end - start) / count
    index = np.floor((positions - first) / (last - first) * cells).astype(int)
    return index.clip(0, cells - 1), (index >= 0) & (index < cells)
