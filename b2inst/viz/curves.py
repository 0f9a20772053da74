"""Training curves from the runs' logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from b2inst.viz.figure import ROW_COLOURS, new_figure

#: What a run logged, in order: ``iteration``, ``lr``, ``seconds``, ``total`` and losses by name.
Log = Sequence[Mapping[str, Any]]

# The total is left out: rows with more parts add up more losses, which says nothing.
_NOT_SHOWN = ("iteration", "lr", "seconds", "total")

#: Of early looks, in percent: measured on all their images, and so drawn as they are.
_MEASURED = ("AP", "boundary_AP")


def training_curves(
    logs: Mapping[str, Sequence[Log]], *, smoothing: float = 0.04, columns: int = 4
) -> Figure:
    """One panel a loss or metric, one colour a row of the table; each seed is a line of its own.

    Args:
        logs: row name → the log of each of its seeds.
        smoothing: a log line is the loss of one batch, so an exponential mean is drawn; this is
            its centre of mass as a fraction of the log's length, 0 to draw the log as it is.
        columns: panels side by side.
    """
    losses = loss_names([log for seeds in logs.values() for log in seeds])
    columns = max(min(columns, len(losses)), 1)
    rows = max(-(-len(losses) // columns), 1)
    figure = new_figure(3.2 * columns, 2.3 * rows + 0.5)
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
    for axis in axes[len(losses) :]:
        axis.set_axis_off()
    colours = {name: ROW_COLOURS[i % len(ROW_COLOURS)] for i, name in enumerate(logs)}
    for axis, loss in zip(axes, losses, strict=False):
        for name, seeds in logs.items():
            for log in seeds:
                points = {line["iteration"]: line[loss] for line in log if loss in line}
                measured = loss in _MEASURED
                com = 0 if measured else smoothing * len(points)
                curve = pd.Series(points, dtype=float).ewm(com=com).mean()
                marker = "." if measured else ""
                axis.plot(curve.index, curve, color=colours[name], linewidth=1, marker=marker)
        axis.set_title(loss, fontsize=9)
        axis.set_ylim(bottom=0)  # no loss or AP is negative
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25, linewidth=0.5)
    figure.supxlabel("iteration", fontsize=9)
    handles = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=max(len(handles), 1), fontsize=8
    )
    return figure


def loss_names(logs: Sequence[Log]) -> list[str]:
    """Names of the losses in any of the logs, in order of appearance."""
    names = dict.fromkeys(name for log in logs for line in log for name in line)
    return [name for name in names if name not in _NOT_SHOWN]
