"""Matplotlib figures without global state, as small files and in notebooks."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

from b2inst.viz.draw import PALETTE, Picture

#: Black and the colours of instances: one per row of a table.
ROW_COLOURS = ("#000000", *(f"#{bytes(colour).hex().upper()}" for colour in PALETTE))

_PRINT_DPI = 150
_PAGE = 7.2  # inches, the width of a printed text of two columns
_LARGEST_PNG = 2**20  # bytes
_DISPLAY_DPI = 100
_LONGEST = 1000  # pixels of a displayed picture


class DisplayedFigure(Figure):
    """A figure without pyplot that a notebook shows as a cell's value."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue()


def new_figure(width: float, height: float) -> DisplayedFigure:
    """Create a figure of the given size in inches, which any process or thread may draw."""
    return DisplayedFigure(figsize=(width, height), layout="constrained", facecolor="white")


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
    axes.imshow(image, extent=(0, size[1], size[0], 0), aspect="auto", interpolation="nearest")
    return figure


def picture_grid(
    rows: Sequence[Sequence[Picture]],
    columns: Sequence[str],
    labels: Sequence[str],
    *,
    across: int = 1,
    width: float | None = None,
    note: str = "",
) -> Figure:
    """Show pictures with a title over each column and a label before each row.

    Args:
        rows: Rows of pictures, one for each column.
        columns: Titles.
        labels: Labels of the rows.
        across: Number of rows that are placed side by side.
        width: Width of a picture in inches (default: as fills a page).
        note: Text below the pictures.
    """
    width = width or (_PAGE / across - 0.4) / len(columns)
    total = across * (width * len(columns) + 0.4)
    below = textwrap.wrap(note, round(total * 19))
    ratios = [row[0].shape[0] / row[0].shape[1] for row in rows] or [1.0]
    heights = [width * max(ratios[i : i + across]) for i in range(0, len(ratios), across)]
    figure = new_figure(total, sum(heights) + 0.25 + 0.05 * len(heights) + 0.14 * len(below))
    axes = figure.subplots(
        len(heights), across * len(columns), squeeze=False, height_ratios=heights
    )
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for row, label, own in zip(rows, labels, axes.reshape(-1, len(columns)), strict=False):
        for axis, picture in zip(own, row, strict=True):
            whole = picture.shape[1] <= width * _PRINT_DPI
            axis.imshow(picture, interpolation="none" if whole else "antialiased")
        own[0].set_ylabel(label, fontsize=7)
    for axis, title in zip(axes[0], [*columns] * across, strict=True):
        axis.set_title(title, fontsize=9 if width > 1.5 else 7)
    if below:
        figure.supxlabel("\n".join(below), x=0.01, ha="left", fontsize=7)
    return figure


def save_figure(figure: Figure, path: Path, *, dpi: int = 110) -> Path:
    """Write a PNG of at most 256 colours; equal figures give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    image = Image.open(buffer).convert("RGB")
    few = image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(path, format="PNG", optimize=True)
    return path


def save_print(figure: Figure, path: Path) -> Path:
    """Write a PNG of at most 1 MiB, and beside it a PDF whose text can be searched and edited."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"pdf.fonttype": 42}):  # TrueType
        figure.savefig(path.with_suffix(".pdf"), dpi=_PRINT_DPI, metadata={"CreationDate": None})
    dpi = _PRINT_DPI
    while save_figure(figure, path, dpi=dpi).stat().st_size > _LARGEST_PNG:
        dpi = dpi * 3 // 4
    return path
