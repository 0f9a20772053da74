"""Matplotlib figures without global state, as small files and in notebooks."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from b2inst.viz.draw import Picture

#: Okabe and Ito's colours, distinguishable by colour-blind readers too: one per row of a table.
ROW_COLOURS = (
    "#000000",
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
)

#: Pixels per inch of printed pictures.
PRINT_DPI = 200

_LARGEST_PNG = 2**20  # bytes
_DISPLAY_DPI = 100
_LONGEST = 1000  # pixels of a displayed picture


class DisplayedFigure(Figure):
    """A figure without pyplot that a notebook shows as a cell's value."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Create a figure of the given size in inches, which any process or thread may draw."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def picture_figure(picture: Picture, *, size: tuple[int, ...]) -> DisplayedFigure:
    """Create a figure that is filled by a picture, pixel by pixel.

    Args:
        picture: H×W×3 uint8 RGB; shrunk to 1000 pixels on the longer side for Matplotlib's sake.
        size: (height, width) of its axes, such as those of the image before it was enlarged.
    """
    image = Image.fromarray(picture)
    image.thumbnail((_LONGEST, _LONGEST), reducing_gap=2)
    inches = (image.width / _DISPLAY_DPI, image.height / _DISPLAY_DPI)
    figure = DisplayedFigure(figsize=inches, dpi=_DISPLAY_DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    extent = (0, size[1], size[0], 0)
    axes.imshow(np.asarray(image), extent=extent, aspect="auto", interpolation="nearest")
    return figure


def save_figure(figure: Figure, path: str | Path, *, dpi: int = 110) -> Path:
    """Write a PNG of at most 256 colours; equal figures give equal bytes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    image = Image.open(buffer).convert("RGB")
    few = image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(path, format="PNG", optimize=True)
    return path


def save_print(figure: Figure, path: Path) -> Path:
    """Write a PNG of at most 1 MiB, and beside it a PDF whose text can be searched and edited.

    Args:
        figure: Figure to write.
        path: Path of the PNG.

    Returns:
        The PNG.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"pdf.fonttype": 42}):  # TrueType
        undated = {"CreationDate": None}
        figure.savefig(path.with_suffix(".pdf"), dpi=PRINT_DPI, metadata=undated)
    dpi = PRINT_DPI
    while save_figure(figure, path, dpi=dpi).stat().st_size > _LARGEST_PNG:
        dpi = dpi * 3 // 4
    return path
