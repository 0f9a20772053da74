"""Pictures in rows and columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure

from b2inst.viz.draw import Picture
from b2inst.viz.figure import PRINT_DPI, new_figure

#: Width in inches of a printed text of two columns.
PAGE = 7.2


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
        rows: Rows of pictures, which may be shorter than ``columns``.
        columns: Titles.
        labels: Labels of the rows.
        across: Number of rows that are placed side by side.
        width: Width of a picture in inches (default: as fills a page).
        note: Text below the pictures.
    """
    count = len(columns)
    width = (PAGE / across - 0.4) / count if width is None else width
    total = across * (width * count + 0.4)
    below = textwrap.wrap(note, round(total * 19)) if note else []
    ratios = [row[0].shape[0] / row[0].shape[1] for row in rows]
    lines = range(0, len(rows), across)
    heights = [width * max(ratios[i : i + across]) for i in lines] or [width]
    figure = new_figure(total, sum(heights) + 0.25 + 0.05 * len(heights) + 0.14 * len(below))
    axes = figure.subplots(len(heights), across * count, squeeze=False, height_ratios=heights)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        own = axes[i // across, i % across * count :][:count]
        for axis, picture in zip(own, row, strict=False):
            whole = picture.shape[1] <= width * PRINT_DPI
            axis.imshow(picture, interpolation="none" if whole else "antialiased")
        for axis in own[len(row) :]:  # so that its title is at the same height
            axis.set_box_aspect(ratios[i])
        own[0].set_ylabel(label, fontsize=7)
    for axis, title in zip(axes[0], list(columns) * across, strict=True):
        axis.set_title(title, fontsize=9 if width > 1.5 else 7)
    if below:
        figure.supxlabel("\n".join(below), x=0.01, ha="left", fontsize=7)
    return figure
