"""Predicted against true mask quality: the calibration of the scoring heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from b2inst.experiments.tables.score_quality import RowQuality
from b2inst.viz.figure import new_figure

_QUALITIES = {
    "iou": (r"$S_\mathrm{IoU}$", "true mask IoU"),
    "boundary": (r"$S_\mathrm{boundary}$", "true boundary Dice"),
}
_FEWEST = 20  # detections in a bin


def calibration_figure(rows: Sequence[RowQuality], colours: Mapping[str, str]) -> Figure:
    """Draw the mean true quality by predicted quality, and below it the share of predictions.

    A perfectly calibrated head lies on the diagonal; below it, masks are rated too well. Bins of
    fewer than 20 detections are left out.

    Args:
        rows: Rows of the table that have a scoring head.
        colours: Colours by name of the row.
    """
    figure = new_figure(7.2, 4.9)
    axes = figure.subplots(2, 2, sharex=True, height_ratios=(3, 1), squeeze=False)
    for (upper, lower), (name, (score, truth)) in zip(axes.T, _QUALITIES.items(), strict=True):
        upper.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--", zorder=0)
        for row in rows:
            bins, colour = row.calibration.get(name, []), colours[row.name]
            points = [(b.predicted, b.true) for b in bins if b.count >= _FEWEST]
            x, y = np.array(points, dtype=float).reshape(-1, 2).T
            if bins:
                upper.plot(x, y, color=colour, marker="o", markersize=4, linewidth=1.2)
            if total := sum(b.count for b in bins):
                edges = [*(b.low for b in bins), bins[-1].high]
                lower.stairs([b.count / total for b in bins], edges, color=colour, linewidth=1.2)
        upper.set(xlim=(0, 1), ylim=(0, 1), ylabel=truth)
        upper.set_title(score, fontsize=10)
        lower.set(xlabel=f"predicted {score}", ylabel="share", ylim=(0, None))
        for axis in (upper, lower):
            axis.tick_params(labelsize=8)
            axis.grid(alpha=0.25, linewidth=0.5)
    handles = [
        Line2D([], [], color=colours[row.name], marker="o", markersize=4, label=row.name)
        for row in rows
    ]
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=9)
    return figure
