"""Speed, mask AP and boundary AP of a table's rows, and where the time goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from b2inst.benchmark import Benchmark
from b2inst.benchmark.stages import STAGES
from b2inst.experiments import TableResult
from b2inst.experiments.tables.rendering import heading
from b2inst.experiments.tables.table_result import ResultRow
from b2inst.viz.figure import ROW_COLOURS, new_figure

_STAGE_COLOURS = ("#999999", *ROW_COLOURS[1:])

Cell = Callable[[ResultRow, str], float | None]


def tradeoff_figure(result: TableResult) -> Figure:
    """Plot mask AP against speed, and boundary AP against mask AP; then the paper's speed, if any.

    Arrows lead from base rows to the rows that are compared with them. Rows that share a run share
    a point.
    """
    points: defaultdict[tuple[float | str | None, ...], list[ResultRow]] = defaultdict(list)
    timed = [row.name for row in result.rows if _place(row, "FPS", "AP", _paper)]
    for row in result.rows:
        measured = tuple(_ours(row, column) for column in ("FPS", "AP", "boundary_AP"))
        if any(measured) or row.name in timed:
            points[measured if any(measured) else (row.name,)].append(row)
    device = result.provenance.get("speed", {}).get("device", "not timed")
    panels: list[tuple[str, str, str, Cell]] = [
        ("FPS", "AP", f"FPS ({device})", _ours),
        ("AP", "boundary_AP", "mask AP", _ours),
        ("FPS", "AP", "the paper's FPS", _paper),
    ]
    panels = panels[: 3 if timed else 2]
    figure = new_figure(2 + 4.0 * len(panels), 3.6)
    for axis, (x, y, label, cell) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for number, rows in enumerate(points.values(), start=1):
            _point(axis, result, rows, number, x, y, cell)
        axis.margins(0.08)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25, linewidth=0.5)
        axis.set_xlabel(label, fontsize=8)
        name = "mask AP" if y == "AP" else heading(y)
        axis.set_ylabel(f"the paper's {name}" if cell is _paper else name, fontsize=8)
    handles = []
    for number, rows in enumerate(points.values(), start=1):
        colour, marker = _style(rows[0])
        label = f"{number}  {' = '.join(row.name for row in rows)}"
        handles.append(Line2D([], [], label=label, color=colour, marker=marker, linestyle="none"))
    if handles:
        figure.legend(handles=handles, loc="outside right center", fontsize=8, frameon=False)
    return figure


def _point(
    axis: Axes, result: TableResult, rows: list[ResultRow], number: int, x: str, y: str, cell: Cell
) -> None:
    """A numbered point with its standard deviations over seeds, and an arrow from its base row."""
    place = _place(rows[0], x, y, cell)
    if place is None:
        return
    colour, marker = _style(rows[0])
    axis.errorbar(
        place[0],
        place[1],
        xerr=rows[0].ours[x].sd if cell is _ours else None,
        yerr=rows[0].ours[y].sd if cell is _ours else None,
        elinewidth=0.8,
        color=colour,
        marker=marker,
        markersize=12,
        alpha=0.85,
    )
    axis.annotate(str(number), place, ha="center", va="center_baseline", color="white", size=8)
    for base in {row.base for row in rows if row.base is not None}:
        start = _place(result.row(base), x, y, cell)
        if start is not None and start != place:
            style = {"arrowstyle": "->", "color": colour, "shrinkA": 7, "shrinkB": 7, "alpha": 0.6}
            axis.annotate("", place, start, arrowprops=style)


def _ours(row: ResultRow, column: str) -> float | None:
    measured = row.ours.get(column)
    return None if measured is None else measured.mean


def _paper(row: ResultRow, column: str) -> float | None:
    value = row.paper.get(column)
    return None if value is None or isinstance(value, str) else value


def _place(row: ResultRow, x: str, y: str, cell: Cell) -> tuple[float, float] | None:
    across, up = cell(row, x), cell(row, y)
    return None if across is None or up is None else (across, up)


def _style(row: ResultRow) -> tuple[str, str]:
    """Colour and marker: two-stage, B2Inst, and others."""
    if row.group is not None and "two-stage" in row.group:
        return ROW_COLOURS[4], "s"
    return (ROW_COLOURS[1] if row.name.startswith("B2Inst") else ROW_COLOURS[0]), "o"


def stages_figure(benchmark: Benchmark) -> Figure:
    """Draw a bar per model with the median time of each stage of a prediction.

    The medians need not add up to that of the whole. At the end of a bar are the images per second
    and, for models with a baseline, the additional time.
    """
    speeds = benchmark.speeds
    figure = new_figure(9.0, 0.42 * len(speeds) + 1.2)
    axis = figure.subplots()
    ends = [0.0] * len(speeds)
    for stage, colour in zip(STAGES, _STAGE_COLOURS, strict=True):
        times = [speed.stages_ms.get(stage, 0.0) for speed in speeds]
        axis.barh(range(len(speeds)), times, left=ends, color=colour, height=0.7, label=stage)
        ends = [end + time for end, time in zip(ends, times, strict=True)]
    more = {overhead.model: overhead.percent for overhead in benchmark.overheads}
    for place, (speed, end) in enumerate(zip(speeds, ends, strict=True)):
        text = f"{speed.fps:.3g} FPS"
        if speed.model in more:
            text += f", {more[speed.model]:+.1f} % time".replace("-", "−")
        axis.text(end, place, f"  {text}", va="center", fontsize=8)
    axis.set_yticks(range(len(speeds)), [speed.model for speed in speeds])
    axis.set_ylim(len(speeds) - 0.5, -0.5)
    axis.set_xlim(0, 1.25 * max(ends, default=1.0))
    axis.set_xlabel("milliseconds per image", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(STAGES), fontsize=8)
    return figure
