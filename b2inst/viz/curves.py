"""Training curves from the runs' logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from b2inst.viz.figure import ROW_COLOURS, new_figure

#: The lines of a run's log: ``iteration``, ``lr``, ``seconds``, ``total``, and losses by name.
Log = Sequence[Mapping[str, Any]]

# The total is not shown, since rows with more parts add up more losses.
_NOT_SHOWN = ("lr", "seconds", "total")
_METRICS = ("AP", "boundary_AP")  # of evaluations during training, which are not smoothed
_COLUMNS = 4


def training_curves(logs: Mapping[str, Sequence[Log]], *, smoothing: float = 0.04) -> Figure:
    """Draw a panel per loss or metric, with a colour per row of the table and a line per seed.

    Args:
        logs: Logs of all seeds by name of the row.
        smoothing: Centre of mass of the exponential mean that is drawn of losses, as a fraction of
            the log's length.
    """
    frames = {
        name: [pd.DataFrame(log).groupby("iteration").last() for log in seeds if log]
        for name, seeds in logs.items()
    }
    every = dict.fromkeys(column for seeds in frames.values() for log in seeds for column in log)
    losses = [name for name in every if name not in _NOT_SHOWN]
    columns = max(min(_COLUMNS, len(losses)), 1)
    rows = max(-(-len(losses) // columns), 1)
    figure = new_figure(3.2 * columns, 2.3 * rows + 0.5)
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
    for axis in axes[len(losses) :]:
        axis.set_axis_off()
    colours = {name: ROW_COLOURS[i % len(ROW_COLOURS)] for i, name in enumerate(logs)}
    for axis, loss in zip(axes, losses, strict=False):
        for name, seeds in frames.items():
            for log in (log for log in seeds if loss in log):
                points = log[loss].dropna()
                measured = loss in _METRICS
                curve = points.ewm(com=0 if measured else smoothing * len(points)).mean()
                marker = "." if measured else ""
                axis.plot(curve.index, curve, color=colours[name], linewidth=1, marker=marker)
        axis.set_title(loss, fontsize=9)
        axis.set_ylim(bottom=0)  # no loss or AP is negative
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25, linewidth=0.5)
    figure.supxlabel("iteration", fontsize=9)
    handles = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    ncols = max(len(handles), 1)
    figure.legend(handles=handles, loc="outside upper center", ncols=ncols, fontsize=8)
    return figure
