"""How a table's rows differ from their base rows, with the noise."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from b2inst.experiments.specs.table_spec import METRICS
from b2inst.experiments.tables.rendering import heading
from b2inst.experiments.tables.table_result import ResultRow, TableResult
from b2inst.viz.figure import ROW_COLOURS, new_figure

_OURS, _PAPER = ROW_COLOURS[1], ROW_COLOURS[4]
_NOISE = "#9a9a9a"


def differences_figure(result: TableResult) -> Figure:
    """A panel a row that has a base, a line a metric: ours with its 95 % band, and the paper's.

    Ours are grey where the band has zero in it.
    """
    rows = [row for row in result.rows if row.base is not None]
    columns = [column for column in result.columns if column in METRICS]
    figure = new_figure(3.2 * max(len(rows), 1) + 0.8, 0.24 * len(columns) + 1.3)
    axes = figure.subplots(1, max(len(rows), 1), squeeze=False, sharex=True, sharey=True)[0]
    for axis, row in zip(axes, rows, strict=False):
        _draw(axis, result, row, columns)
    if len(columns):
        axes[0].set_yticks(range(len(columns)), [heading(column) for column in columns])
        axes[0].set_ylim(len(columns) - 0.5, -0.5)
    figure.supxlabel("difference in percent points", fontsize=9)
    kinds = (("o", _OURS, "ours"), ("o", _NOISE, "ours, inside the noise"), ("D", _PAPER, "paper"))
    handles = [
        Line2D([], [], marker=m, color=c, linestyle="none" if m == "D" else "-", label=name)
        for m, c, name in kinds
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=8)
    return figure


def _draw(axis: Axes, result: TableResult, row: ResultRow, columns: list[str]) -> None:
    axis.axvline(0, color="black", linewidth=0.8)
    for place, column in enumerate(columns):
        delta = row.delta.get(column)
        if delta is not None and delta.mean is not None and delta.band95 is not None:
            low, high = delta.band95
            colour = _NOISE if delta.inside_noise else _OURS
            axis.plot([low, high], [place, place], color=colour, linewidth=1.6)
            axis.plot([delta.mean], [place], color=colour, marker="o", markersize=5)
        paper = result.paper_difference(row.name, column)
        if paper is not None:
            axis.plot([paper], [place], color=_PAPER, marker="D", markersize=4, linestyle="none")
    axis.set_title(f"{row.name}\nagainst {row.base}", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(axis="x", alpha=0.25, linewidth=0.5)
