"""A picture as a figure that notebooks show."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from b2inst.viz.draw import Picture

_DPI = 100
_LONGEST = 1000  # pixels


class PictureFigure(Figure):
    """A figure that belongs to no pyplot, and yet is shown as a cell's value."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def picture_figure(picture: Picture, *, size: tuple[int, ...]) -> PictureFigure:
    """A figure that is filled by a picture, pixel by pixel.

    Args:
        picture: H×W×3 uint8 RGB; where its longer side has more than 1000 pixels it is shrunk to
            that, for Matplotlib would take seconds.
        size: (height, width) that its axes count, such as those of the image before it was
            enlarged.
    """
    image = Image.fromarray(picture)
    image.thumbnail((_LONGEST, _LONGEST), reducing_gap=2)
    figure = PictureFigure(figsize=(image.width / _DPI, image.height / _DPI), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    extent = (0, size[1], size[0], 0)
    axes.imshow(np.asarray(image), extent=extent, aspect="auto", interpolation="nearest")
    return figure
