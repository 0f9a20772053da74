"""What a table's rows cost: speed against quality, and where the time goes."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from b2inst.benchmark import Benchmark
from b2inst.benchmark.stages import STAGES
from b2inst.experiments.tables.rendering import heading
from b2inst.experiments.tables.table_result import ResultRow, TableResult
from b2inst.viz.figure import ROW_COLOURS, new_figure

_STAGE_COLOURS = ("#999999", *ROW_COLOURS[1:])

Cell = Callable[[ResultRow, str], float | None]


def speed_figure(result: TableResult) -> Figure:
    """AP against images a second: an arrow from each base row to the row compared with it.

    Ours as mask AP and boundary AP, then the paper's mask AP, with the FPS of its own machine. An
    upright line is the sd over seeds.
    """
    speed = result.provenance.get("speed", {})
    panels: list[tuple[str, str, Cell]] = [
        (f"ours, {speed.get('device', 'not timed')}", "AP", _ours),
        (f"ours, {speed.get('device', 'not timed')}", "boundary_AP", _ours),
        ("the paper's", "AP", _paper),
    ]
    rows = [row for row in result.rows if row.base is not None]
    colours = {row.name: ROW_COLOURS[1 + i % 7] for i, row in enumerate(rows)}
    figure = new_figure(10.0, 3.6)
    for axis, (title, column, cell) in zip(figure.subplots(1, 3), panels, strict=True):
        for row in rows:
            _arrow(axis, result, row, column, cell, colours[row.name])
        axis.margins(0.15)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("FPS", fontsize=8)
        axis.set_ylabel("mask AP" if column == "AP" else heading(column), fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25, linewidth=0.5)
    handles = [
        Line2D([], [], color=colours[row.name], marker="o", label=f"{row.base} → {row.name}")
        for row in rows
    ]
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=8)
    return figure


def stages_figure(benchmark: Benchmark) -> Figure:
    """A bar a model, of the stages of a prediction in milliseconds: medians over the
    images, which need not add up to that of the whole.

    At its end the images a second and, where its baseline takes part, how much more time it takes.
    """
    speeds = benchmark.speeds
    figure = new_figure(9.0, 0.42 * len(speeds) + 1.2)
    axis = figure.subplots()
    starts = [0.0] * len(speeds)
    for stage, colour in zip(STAGES, _STAGE_COLOURS, strict=True):
        times = [speed.stages_ms.get(stage, 0.0) for speed in speeds]
        axis.barh(range(len(speeds)), times, left=starts, color=colour, height=0.7, label=stage)
        starts = [start + time for start, time in zip(starts, times, strict=True)]
    more = {overhead.model: overhead.percent for overhead in benchmark.overheads}
    for place, (speed, end) in enumerate(zip(speeds, starts, strict=True)):
        text = f"{speed.fps:.3g} FPS"
        if speed.model in more:
            text += f", {more[speed.model]:+.1f} % time".replace("-", "−")
        axis.text(end, place, f"  {text}", va="center", fontsize=8)
    axis.set_yticks(range(len(speeds)), [speed.model for speed in speeds])
    axis.set_ylim(len(speeds) - 0.5, -0.5)
    axis.set_xlim(0, 1.25 * max(starts, default=1.0))
    axis.set_xlabel("milliseconds an image", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(STAGES), fontsize=8)
    return figure


def _arrow(
    axis: Axes, result: TableResult, row: ResultRow, column: str, cell: Cell, colour: str
) -> None:
    base = result.row(row.base or "")
    x0, y0, x1, y1 = (cell(of, name) for of in (base, row) for name in ("FPS", column))
    if x0 is None or y0 is None or x1 is None or y1 is None:
        return
    for of, x, y in ((base, x0, y0), (row, x1, y1)):
        measured = of.ours.get(column)
        if cell is _ours and measured is not None and measured.sd is not None:
            axis.plot([x, x], [y - measured.sd, y + measured.sd], color=colour, linewidth=0.8)
    axis.plot([x0], [y0], color=colour, marker="o", markersize=6, markerfacecolor="white")
    axis.plot([x1], [y1], color=colour, marker="o", markersize=6)
    style = {"arrowstyle": "->", "color": colour, "shrinkA": 4, "shrinkB": 4}
    axis.annotate("", (x1, y1), (x0, y0), arrowprops=style)


def _ours(row: ResultRow, column: str) -> float | None:
    measured = row.ours.get(column)
    return None if measured is None else measured.mean


def _paper(row: ResultRow, column: str) -> float | None:
    value = row.paper.get(column)
    return None if value is None or isinstance(value, str) else value
