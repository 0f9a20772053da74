"""Where the rows of a table lie: quality against speed, and masks against their boundaries."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from b2inst.experiments.tables.rendering import heading
from b2inst.experiments.tables.table_result import ResultRow, TableResult
from b2inst.viz.figure import ROW_COLOURS, new_figure


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
    """A numbered point a run, its rows named beside the axes; bars are the sd over seeds."""
    places: dict[tuple[float, float], list[ResultRow]] = {}
    for row in result.rows:
        across, up = (row.ours.get(column) for column in (x, y))
        if across is not None and up is not None and None not in (across.mean, up.mean):
            places.setdefault((across.mean or 0.0, up.mean or 0.0), []).append(row)
    figure = new_figure(8.0, 4.2)
    axis = figure.subplots()
    handles = []
    for number, ((across_at, up_at), rows) in enumerate(places.items(), start=1):
        colour, shape = _style(rows[0])
        axis.errorbar(
            [across_at],
            [up_at],
            xerr=rows[0].ours[x].sd,
            yerr=rows[0].ours[y].sd,
            color=colour,
            marker=shape,
            markersize=13,
            elinewidth=0.8,
            alpha=0.85,
        )
        place = (across_at, up_at)
        axis.annotate(str(number), place, ha="center", va="center_baseline", color="white", size=8)
        name = f"{number}  {' = '.join(row.name for row in rows)}"
        look = {"color": colour, "marker": shape, "markersize": 8, "linestyle": "none"}
        handles.append(Line2D([], [], label=name, **look))  # type: ignore[arg-type]
    axis.margins(0.08)
    axis.set_xlabel(x_label, fontsize=9)
    axis.set_ylabel(y_label, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25, linewidth=0.5)
    if handles:
        figure.legend(handles=handles, loc="outside right center", fontsize=8, frameon=False)
    return figure


def _style(row: ResultRow) -> tuple[str, str]:
    """Colour and marker: two-stage, B2Inst, and others."""
    if row.group is not None and "two-stage" in row.group:
        return ROW_COLOURS[4], "s"
    return (ROW_COLOURS[1] if row.name.startswith("B2Inst") else ROW_COLOURS[0]), "o"
