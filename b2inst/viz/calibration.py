"""Predicted against true mask quality: the calibration of the scoring heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.tables.score_quality import RowQuality, ScoreQuality
from b2inst.experiments.tables.table_result import TableResult
from b2inst.viz.figure import ROW_COLOURS, new_figure, save_figure

_SUBSCRIPTS = {"iou": r"$S_\mathrm{IoU}$", "boundary": r"$S_\mathrm{boundary}$"}
_TRUTHS = {"iou": "true mask IoU", "boundary": "true boundary Dice"}
_LEAST = 20  #: detections a bin must have to be drawn


def save_calibration(quality: ScoreQuality, result: TableResult, workspace: Workspace) -> Path:
    """``calibration.png`` beside the table; a row has the colour of its training curves."""
    colours = {row.name: ROW_COLOURS[i % len(ROW_COLOURS)] for i, row in enumerate(result.rows)}
    folder = workspace.results / quality.profile / quality.table
    return save_figure(calibration_figure(quality.rows, colours), folder / "calibration.png")


def calibration_figure(rows: Sequence[RowQuality], colours: Mapping[str, str]) -> Figure:
    """A column a quality: above, mean truth by predicted value; below, how many were predicted so.

    A perfectly calibrated head lies on the diagonal; below it, masks are rated too well. Bins of
    less than 20 detections are not drawn.

    Args:
        rows: the rows of the table that have a scoring head.
        colours: of each row, by name.
    """
    figure = new_figure(7.2, 4.9)
    axes = figure.subplots(2, 2, sharex=True, height_ratios=(3, 1), squeeze=False)
    for column, name in enumerate(_SUBSCRIPTS):
        upper, lower = axes[:, column]
        upper.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--", zorder=0)
        for row in rows:
            if name in row.calibration:
                _draw(upper, lower, row, name, colours[row.name])
        upper.set(xlim=(0, 1), ylim=(0, 1), ylabel=_TRUTHS[name])
        upper.set_title(_SUBSCRIPTS[name], fontsize=10)
        lower.set(xlabel=f"predicted {_SUBSCRIPTS[name]}", ylabel="share", ylim=(0, None))
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


def _draw(upper: Axes, lower: Axes, row: RowQuality, name: str, colour: str) -> None:
    bins = row.calibration[name]
    drawn = [b for b in bins if b.count >= _LEAST]
    upper.plot(
        np.array([b.predicted for b in drawn], dtype=float),
        np.array([b.true for b in drawn], dtype=float),
        color=colour,
        marker="o",
        markersize=4,
        linewidth=1.2,
    )
    total = sum(b.count for b in bins)
    if total:
        edges = [*(b.low for b in bins), bins[-1].high]
        lower.stairs([b.count / total for b in bins], edges, color=colour, linewidth=1.2)
