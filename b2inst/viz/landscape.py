"""Where the rows of a table lie: quality against speed, and masks against their boundaries."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from b2inst.experiments.rendering import heading
from b2inst.experiments.table_result import ResultRow, TableResult
from b2inst.viz.figure import ROW_COLOURS, new_figure

_TWO_STAGE, _PLAIN, _OURS = ROW_COLOURS[4], ROW_COLOURS[0], ROW_COLOURS[1]

#: Least distance of labels, as a part of the axis's height.
_APART = 0.05


def speed_landscape(result: TableResult) -> Figure:
    """Mask AP against images a second, both measured here, on one machine.

    Published speeds are of as many machines as methods: they are left out.
    """
    device = result.provenance.get("speed", {}).get("device", "not timed")
    return _landscape(result, "FPS", "AP", f"FPS ({device})", "mask AP")


def boundary_landscape(result: TableResult) -> Figure:
    """Boundary AP against mask AP, both measured here: what is above its neighbours of the same
    mask AP draws the better outlines."""
    return _landscape(result, "AP", "boundary_AP", "mask AP", heading("boundary_AP"))


def _landscape(result: TableResult, x: str, y: str, x_label: str, y_label: str) -> Figure:
    """A point a run, named by its rows; bars are the sd over seeds."""
    places: dict[tuple[float, float], list[ResultRow]] = {}
    for row in result.rows:
        across, up = (row.ours.get(column) for column in (x, y))
        if across is not None and up is not None and None not in (across.mean, up.mean):
            places.setdefault((across.mean or 0.0, up.mean or 0.0), []).append(row)
    figure = new_figure(7.5, 4.6)
    axis = figure.subplots()
    for (across_at, up_at), rows in places.items():
        colour, shape, fill = _style(rows[0])
        axis.errorbar(
            [across_at],
            [up_at],
            xerr=rows[0].ours[x].sd,
            yerr=rows[0].ours[y].sd,
            color=colour,
            marker=shape,
            markersize=7,
            markerfacecolor=fill,
            elinewidth=0.8,
        )
    axis.margins(0.3, 0.12)
    low, high = axis.get_ylim()
    free = low  # labels are moved up until they are apart
    for (across_at, up_at), rows in sorted(places.items(), key=lambda place: place[0][1]):
        free = max(free, up_at)
        name = "   " + " = ".join(row.name for row in rows)
        line = {"arrowstyle": "-", "linewidth": 0.4} if free > up_at else None
        axis.annotate(
            name, (across_at, up_at), (across_at, free), fontsize=8, va="center", arrowprops=line
        )
        free += _APART * (high - low)
    axis.set_xlabel(x_label, fontsize=9)
    axis.set_ylabel(y_label, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25, linewidth=0.5)
    kinds = (("two-stage", _TWO_STAGE, "s"), ("single-stage", _PLAIN, "o"), ("B2Inst", _OURS, "o"))
    handles = [
        Line2D([], [], color=colour, marker=shape, linestyle="none", label=name)
        for name, colour, shape in kinds
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, fontsize=8)
    return figure


def _style(row: ResultRow) -> tuple[str, str, str]:
    """Colour, marker and its filling."""
    if row.group is not None and "two-stage" in row.group:
        return _TWO_STAGE, "s", "white"
    return (_OURS, "o", _OURS) if row.name.startswith("B2Inst") else (_PLAIN, "o", "white")
