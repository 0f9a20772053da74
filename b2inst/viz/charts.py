"""Charts beside a table: training curves, calibration, differences, speed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from b2inst.benchmark import Benchmark
from b2inst.benchmark.stages import STAGES
from b2inst.experiments import TableResult
from b2inst.experiments.specs.table_spec import CLASS_RANKED, METRICS
from b2inst.experiments.tables.rendering import heading
from b2inst.experiments.tables.score_quality import RowQuality
from b2inst.experiments.tables.table_result import Difference, ResultRow
from b2inst.viz.figure import ROW_COLOURS, new_figure

#: The lines of a run's log: ``iteration``, ``lr``, ``seconds``, ``total``, and losses by name.
Log = Sequence[Mapping[str, Any]]

# The total is not shown, since rows with more parts add up more losses.
_NOT_SHOWN = ("lr", "seconds", "total")
_EVALUATED = ("AP", "boundary_AP")  # during training; not smoothed
_SMOOTHING = 0.04  # centre of mass of the mean that is drawn of losses, as a fraction of the log
_CURVES_ACROSS = 4
_FEWEST = 20  # detections in a bin
_OURS, _BY_CLASS, _PAPER = ROW_COLOURS[1], ROW_COLOURS[2], ROW_COLOURS[4]
_NOT_SIGNIFICANT = Line2D(
    [], [], marker="o", color="#777777", mfc="white", label="interval contains zero"
)
_QUALITIES = {
    "iou": (r"$S_\mathrm{IoU}$", "true mask IoU"),
    "boundary": (r"$S_\mathrm{boundary}$", "true boundary Dice"),
}


def training_curves(logs: Mapping[str, Sequence[Log]]) -> Figure:
    """Draw a panel per loss or metric, with a colour per row of the table and a line per seed.

    Args:
        logs: Logs of all seeds by name of the row.
    """
    frames = [
        (name, pd.DataFrame(log).groupby("iteration").last())
        for name, seeds in logs.items()
        for log in seeds
        if log
    ]
    every = dict.fromkeys(column for _, log in frames for column in log)
    losses = [name for name in every if name not in _NOT_SHOWN]
    columns = max(min(_CURVES_ACROSS, len(losses)), 1)
    rows = max(-(-len(losses) // columns), 1)
    figure = new_figure(3.2 * columns, 2.3 * rows + 0.5)
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
    for axis in axes[len(losses) :]:
        axis.set_axis_off()
    colours = dict(zip(logs, cycle(ROW_COLOURS), strict=False))
    for axis, loss in zip(axes, losses, strict=False):
        measured = loss in _EVALUATED
        for name, log in ((name, log[loss].dropna()) for name, log in frames if loss in log):
            curve = log.ewm(com=0 if measured else _SMOOTHING * len(log)).mean()
            marker = "." if measured else ""
            axis.plot(curve.index, curve, color=colours[name], linewidth=1, marker=marker)
        axis.set_title(f"{loss} (%)" if measured else loss, fontsize=9)
        axis.update_datalim([(0, 0)], updatex=False)  # so that flat curves have a margin, too
        axis.set_ylim(bottom=0)  # no loss or AP is negative
        axis.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        _light_grid(axis, labelsize=7)
    figure.supxlabel("iteration", fontsize=9)
    _legend(figure, [Line2D([], [], color=colours[name], label=name) for name in logs])
    return figure


def calibration_figure(qualities: Sequence[RowQuality], rows: Sequence[str]) -> Figure:
    """Draw the mean true quality by predicted quality.

    A perfectly calibrated head lies on the diagonal; below it, masks are rated too well. Bins of
    fewer than 20 detections are left out.

    Args:
        qualities: Rows of the table that have a scoring head.
        rows: Names of all rows, which have the colours of the training curves.
    """
    colours = dict(zip(rows, cycle(ROW_COLOURS), strict=False))
    figure = new_figure(7.2, 4.0)
    axes = figure.subplots(1, 2)
    for axis, (name, (score, truth)) in zip(axes, _QUALITIES.items(), strict=True):
        axis.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--", zorder=0)
        for row in (row for row in qualities if name in row.calibration):
            some = [b for b in row.calibration[name] if b.count >= _FEWEST]
            points = [b.predicted for b in some], [b.true for b in some]
            axis.plot(*points, color=colours[row.name], marker="o", markersize=4, linewidth=1.2)
        axis.set(xlim=(0, 1), ylim=(0, 1), xlabel=f"predicted {score}", ylabel=truth)
        _light_grid(axis)
    looks = [(row.name, colours[row.name]) for row in qualities]
    _legend(figure, [Line2D([], [], color=c, marker=".", label=name) for name, c in looks])
    return figure


def differences_figure(result: TableResult) -> Figure:
    """Show the differences of rows to their base rows: a panel per row and a line per metric.

    Diamonds are the paper's differences. Markers are open where the interval contains zero.
    """
    rows = [row for row in result.rows if row.base is not None]
    columns = [column for column in result.columns if column in METRICS]
    figure = new_figure(3.2 * max(len(rows), 1) + 0.8, 0.24 * len(columns) + 1.3)
    axes = _interval_axes(figure, len(rows), [heading(column) for column in columns])
    for axis, row in zip(axes, rows, strict=False):
        for place, column in enumerate(columns):
            _interval(axis, place, row.delta.get(column), _OURS)
            if (paper := result.paper_difference(row.name, column)) is not None:
                axis.plot(paper, place, color=_PAPER, marker="D", markersize=4)
        axis.set_title(f"{row.name}\nagainst {row.base}", fontsize=9)
    figure.supxlabel("difference in percentage points", fontsize=9)
    ours = Line2D([], [], marker="o", color=_OURS, label="ours")
    paper_ = Line2D([], [], marker="D", color=_PAPER, linestyle="none", label="paper")
    _legend(figure, [ours, _NOT_SIGNIFICANT, paper_])
    return figure


def contrasts_figure(result: TableResult) -> Figure:
    """Show the contrasts of a table: a panel each for AP and boundary AP and a line per question.

    Masks are ranked by Eq. 2 and, where the table has it, by S_class. Markers are open where the
    interval contains zero.
    """
    panels = [column for column in ("AP", "boundary_AP") if column in result.columns]
    figure = new_figure(4.4 + 3.1 * len(panels), 0.42 * len(result.contrasts) + 1.1)
    names = [f"{c.asks}\n{c.row} − {c.base}" for c in result.contrasts]
    for axis, column in zip(_interval_axes(figure, len(panels), names), panels, strict=True):
        for place, contrast in enumerate(result.contrasts):
            _interval(axis, place - 0.14, contrast.delta.get(column), _OURS)
            by_class = contrast.delta.get(CLASS_RANKED[column])
            _interval(axis, place + 0.14, by_class, _BY_CLASS, marker="s")
        axis.set_xlabel(f"Δ {heading(column)}, percentage points", fontsize=9)
    handles = [
        Line2D([], [], marker="o", color=_OURS, label="ranked by Eq. 2"),
        Line2D([], [], marker="s", color=_BY_CLASS, label="ranked by S_class"),
        _NOT_SIGNIFICANT,
    ]
    _legend(figure, handles, "outside upper right")
    return figure


def tradeoff_figure(result: TableResult) -> Figure:
    """Plot mask AP against speed, and boundary AP against mask AP; then the paper's speed, if any.

    Arrows lead from base rows to the rows that are compared with them. Rows that share a run share
    a point.
    """
    device = result.provenance.get("speed", {}).get("device", "not timed")
    ours = {row.name: {c: cell.mean for c, cell in row.ours.items()} for row in result.rows}
    paper = {row.name: row.paper for row in result.rows}
    panels: list[tuple[Mapping[str, Mapping[str, Any]], str, str, str, str]] = [
        (ours, "FPS", "AP", f"FPS ({device})", "mask AP"),
        (ours, "AP", "boundary_AP", "mask AP", "boundary AP"),
        (paper, "FPS", "AP", "the paper's FPS", "the paper's mask AP"),
    ]
    timed = [name for name, cells in paper.items() if _place(cells, "FPS", "AP")]
    points: defaultdict[tuple[str, ...], list[ResultRow]] = defaultdict(list)
    for row in result.rows:
        if row.runs or row.name in timed:
            points[tuple(row.runs) or (row.name,)].append(row)
    panels = panels[: 3 if timed else 2]
    figure = new_figure(2 + 4.0 * len(panels), max(3.6, 0.2 * len(points)))  # the legend fits
    axes = figure.subplots(1, len(panels))
    handles = []
    for number, rows in enumerate(points.values(), start=1):
        looks: dict[str, Any] = {"marker": "o", "color": ROW_COLOURS[0]}
        if "two-stage" in (rows[0].group or ""):
            looks = {"marker": "s", "color": ROW_COLOURS[4]}
        elif rows[0].name.startswith("B2Inst"):
            looks["color"] = ROW_COLOURS[1]
        label = f"{number}  {' = '.join(row.name for row in rows)}"
        handles.append(Line2D([], [], label=label, linestyle="none", **looks))
        for axis, (cells, x, y, _, _) in zip(axes, panels, strict=True):
            if (place := _place(cells[rows[0].name], x, y)) is None:
                continue
            xerr, yerr = (rows[0].ours[c].sd if cells is ours else None for c in (x, y))
            size: dict[str, Any] = {"markersize": 12, "elinewidth": 0.8, "alpha": 0.85}
            axis.errorbar(*place, xerr=xerr, yerr=yerr, **size, **looks)
            text: dict[str, Any] = {"ha": "center", "va": "center_baseline", "size": 8}
            axis.annotate(str(number), place, color="white", **text)
            for base in {row.base for row in rows if row.base is not None}:
                start = _place(cells[base], x, y)
                if start is not None and start != place:
                    arrow = {"arrowstyle": "->", "color": looks["color"], "alpha": 0.6}
                    axis.annotate("", place, start, arrowprops=arrow | {"shrinkA": 7, "shrinkB": 7})
    for axis, (*_, across, up) in zip(axes, panels, strict=True):
        axis.margins(0.08)
        _light_grid(axis)
        axis.set_xlabel(across, fontsize=8)
        axis.set_ylabel(up, fontsize=8)
    if handles:
        figure.legend(handles=handles, loc="outside right center", fontsize=8, frameon=False)
    return figure


def stages_figure(benchmark: Benchmark) -> Figure:
    """Draw a bar per model with the median time of each stage of a prediction.

    The medians need not add up to that of the whole. At the end of a bar are the images per second
    and, for models with a baseline, the additional time.
    """
    speeds = benchmark.speeds
    figure = new_figure(9.0, 0.42 * len(speeds) + 1.2)
    axis = figure.subplots()
    ends = [0.0] * len(speeds)
    for stage, colour in zip(STAGES, ("#999999", *ROW_COLOURS[1:]), strict=True):
        times = [speed.stages_ms.get(stage, 0.0) for speed in speeds]
        axis.barh(range(len(speeds)), times, left=ends, color=colour, height=0.7, label=stage)
        ends = [end + time for end, time in zip(ends, times, strict=True)]
    more = {overhead.model: overhead.percent for overhead in benchmark.overheads}
    for place, (speed, end) in enumerate(zip(speeds, ends, strict=True)):
        text = f"{speed.fps:.3g} FPS"
        if speed.model in more:
            text += f", {more[speed.model]:+.1f} % time".replace("-", "−")
        axis.text(end, place, f"  {text}", va="center", fontsize=8)
    _name_lines(axis, [speed.model for speed in speeds])
    axis.set_xlim(0, 1.25 * max(ends, default=1.0))
    axis.set_xlabel("milliseconds per image", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(STAGES), fontsize=8)
    return figure


def _place(cells: Mapping[str, Any], x: str, y: str) -> tuple[float, float] | None:
    """Two cells of a row; None without both."""
    across, up = cells.get(x), cells.get(y)
    return None if across is None or up is None else (across, up)


def _interval_axes(figure: Figure, panels: int, names: Sequence[str]) -> list[Axes]:
    """Panels side by side, with a line for zero and the names of the lines."""
    axes = figure.subplots(1, max(panels, 1), squeeze=False, sharex=True, sharey=True)[0]
    for axis in axes:
        axis.axvline(0, color="black", linewidth=0.8)
        _light_grid(axis, "x")
    _name_lines(axes[0], names)
    return list(axes)


def _interval(
    axis: Axes, place: float, delta: Difference | None, colour: str, *, marker: str = "o"
) -> None:
    if delta is not None and delta.mean is not None and delta.band95 is not None:
        face = "white" if delta.inside_noise else colour
        axis.plot(delta.band95, [place, place], color=colour, linewidth=1.5)
        axis.plot(delta.mean, place, color=colour, marker=marker, markersize=5, mfc=face)


def _name_lines(axis: Axes, names: Sequence[str]) -> None:
    """Names of the lines at 0, 1, …, from top to bottom."""
    if names:
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.5, -0.5)


def _light_grid(axis: Axes, which: Any = "both", *, labelsize: int = 8) -> None:
    axis.tick_params(labelsize=labelsize)
    axis.grid(axis=which, alpha=0.25, linewidth=0.5)


def _legend(figure: Figure, handles: Sequence[Line2D], loc: Any = "outside upper center") -> None:
    if handles:
        figure.legend(handles=handles, loc=loc, ncols=len(handles), fontsize=8)
