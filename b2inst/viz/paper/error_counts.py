"""Wrong pixels in the band and away from it: maps above, counts over the split below."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from b2inst.viz.draw import Picture
from b2inst.viz.figure import new_figure
from b2inst.viz.paper.error_map import KINDS, ErrorCount
from b2inst.viz.qualitative import fill_grid

_WIDTH = 7.2  # inches
_BARS = 2.0
_PALE = 0.45  # opacity of all models' bars but the last's


def error_figure(
    rows: Sequence[Sequence[Picture]],
    columns: Sequence[str],
    labels: Sequence[str],
    counts: Sequence[Mapping[str, ErrorCount]],
    *,
    note: str = "",
) -> Figure:
    """Error maps of some images, and under them the counts over a split.

    Args:
        rows, columns, labels: of the maps, two rows side by side (``fill_grid``).
        counts: for each seed, by model; all have the same models.
        note: what is written below the whole.
    """
    width = (_WIDTH / 2 - 0.4) / len(columns)
    height = 0.3 + -(-len(rows) // 2) * (width + 0.1)
    below = textwrap.wrap(note, round(_WIDTH * 19)) if note else []
    figure = new_figure(_WIDTH, height + _BARS + 0.14 * len(below))
    upper, lower = figure.subfigures(2, 1, height_ratios=(height, _BARS), squeeze=False)[:, 0]
    fill_grid(upper, rows, columns, labels, across=2, width=width)
    _draw_bars(lower.subplots(), counts)
    if below:
        figure.supxlabel("\n".join(below), x=0.01, ha="left", fontsize=7)
    return figure


def _draw_bars(axis: Axes, counts: Sequence[Mapping[str, ErrorCount]]) -> None:
    """A group a kind, a bar a model at the mean of the seeds, a dot a seed."""
    models = list(counts[0])
    bar = 0.8 / len(models)
    for group, (kind, colour) in enumerate(KINDS.items()):
        rgb = [channel / 255 for channel in colour]
        for i, model in enumerate(models):
            place = group + (i - (len(models) - 1) / 2) * bar
            values = [count[model].percent(kind) for count in counts]
            opacity = 1.0 if i == len(models) - 1 else _PALE
            axis.bar(place, np.mean(values), bar * 0.92, color=(*rgb, opacity))
            axis.plot([place] * len(values), values, ".", color="black", markersize=3)
    axis.set_xticks(range(len(KINDS)), list(KINDS), fontsize=8)
    axis.set_ylabel("wrong pixels, % of area", fontsize=8)
    axis.tick_params(axis="y", labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    handles = [
        Patch(color="black", alpha=1.0 if model == models[-1] else _PALE, linewidth=0, label=model)
        for model in models
    ]
    axis.legend(handles=handles, fontsize=8, frameon=False)
