"""Differences between rows of a table, with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from b2inst.experiments import TableResult
from b2inst.experiments.specs.table_spec import CLASS_RANKED, METRICS
from b2inst.experiments.tables.rendering import heading
from b2inst.experiments.tables.table_result import Difference
from b2inst.viz.figure import ROW_COLOURS, new_figure

_OURS, _BY_CLASS, _PAPER = ROW_COLOURS[1], ROW_COLOURS[2], ROW_COLOURS[4]
_NOT_SIGNIFICANT = Line2D(
    [], [], marker="o", color="#777777", mfc="white", label="interval contains zero"
)


def differences_figure(result: TableResult) -> Figure:
    """Show the differences of rows to their base rows: a panel per row and a line per metric.

    Diamonds are the paper's differences. Markers are open where the interval contains zero.
    """
    rows = [row for row in result.rows if row.base is not None]
    columns = [column for column in result.columns if column in METRICS]
    figure = new_figure(3.2 * max(len(rows), 1) + 0.8, 0.24 * len(columns) + 1.3)
    axes = figure.subplots(1, max(len(rows), 1), squeeze=False, sharex=True, sharey=True)[0]
    for axis, row in zip(axes, rows, strict=False):
        _prepare(axis)
        for place, column in enumerate(columns):
            _interval(axis, place, row.delta.get(column), _OURS)
            if (paper := result.paper_difference(row.name, column)) is not None:
                axis.plot(paper, place, color=_PAPER, marker="D", markersize=4)
        axis.set_title(f"{row.name}\nagainst {row.base}", fontsize=9)
    _label(axes[0], [heading(column) for column in columns])
    figure.supxlabel("difference in percentage points", fontsize=9)
    ours = Line2D([], [], marker="o", color=_OURS, label="ours")
    paper_ = Line2D([], [], marker="D", color=_PAPER, linestyle="none", label="paper")
    handles = [ours, _NOT_SIGNIFICANT, paper_]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=8)
    return figure


def contrasts_figure(result: TableResult) -> Figure:
    """Show the contrasts of a table: a panel each for AP and boundary AP and a line per question.

    Masks are ranked by Eq. 2 and, where the table has it, by S_class. Markers are open where the
    interval contains zero.
    """
    panels = [column for column in ("AP", "boundary_AP") if column in result.columns]
    figure = new_figure(4.4 + 3.1 * len(panels), 0.42 * len(result.contrasts) + 1.1)
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, column in zip(axes, panels, strict=True):
        _prepare(axis)
        for place, contrast in enumerate(result.contrasts):
            _interval(axis, place - 0.14, contrast.delta.get(column), _OURS)
            by_class = contrast.delta.get(CLASS_RANKED[column])
            if CLASS_RANKED[column] in result.columns:
                _interval(axis, place + 0.14, by_class, _BY_CLASS, marker="s")
        axis.set_xlabel(f"Δ {heading(column)}, percentage points", fontsize=9)
    _label(axes[0], [f"{c.asks}\n{c.row} − {c.base}" for c in result.contrasts])
    handles = [
        Line2D([], [], marker="o", color=_OURS, label="ranked by Eq. 2"),
        Line2D([], [], marker="s", color=_BY_CLASS, label="ranked by S_class"),
        _NOT_SIGNIFICANT,
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=3, fontsize=8)
    return figure


def _prepare(axis: Axes) -> None:
    axis.axvline(0, color="black", linewidth=0.8)
    axis.tick_params(labelsize=8)
    axis.grid(axis="x", alpha=0.25, linewidth=0.5)


def _interval(
    axis: Axes, place: float, delta: Difference | None, colour: str, *, marker: str = "o"
) -> None:
    if delta is not None and delta.mean is not None and delta.band95 is not None:
        face = "white" if delta.inside_noise else colour
        axis.plot(delta.band95, [place, place], color=colour, linewidth=1.5)
        axis.plot(delta.mean, place, color=colour, marker=marker, markersize=5, mfc=face)


def _label(axis: Axes, lines: Sequence[str]) -> None:
    if lines:
        axis.set_yticks(range(len(lines)), lines)
        axis.set_ylim(len(lines) - 0.5, -0.5)
