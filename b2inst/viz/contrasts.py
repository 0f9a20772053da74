"""The questions that a table asks, each answered by the difference of two rows."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from b2inst.experiments.specs.table_spec import CLASS_RANKED
from b2inst.experiments.tables.rendering import heading
from b2inst.experiments.tables.table_result import ContrastResult, TableResult
from b2inst.viz.figure import ROW_COLOURS, new_figure

_OWN, _BY_CLASS = ROW_COLOURS[1], ROW_COLOURS[2]


def contrasts_figure(result: TableResult) -> Figure:
    """A line a question, a panel for AP and one for boundary AP: differences with 95 % bands.

    Ranked by Eq. 2 and, where the table has it, by S_class; open where the band has zero in it.
    """
    panels = [column for column in ("AP", "boundary_AP") if column in result.columns]
    contrasts = result.contrasts
    figure = new_figure(4.4 + 3.1 * len(panels), 0.42 * len(contrasts) + 1.1)
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, column in zip(axes, panels, strict=True):
        _draw(axis, contrasts, column, by_class=CLASS_RANKED[column] in result.columns)
    axes[0].set_yticks(range(len(contrasts)), [f"{c.asks}\n{c.row} − {c.base}" for c in contrasts])
    axes[0].set_ylim(len(contrasts) - 0.5, -0.5)
    handles = [
        Line2D([], [], marker="o", color=_OWN, label="ranked by Eq. 2"),
        Line2D([], [], marker="s", color=_BY_CLASS, label="ranked by S_class"),
        Line2D([], [], marker="o", color="#777777", markerfacecolor="white", label="may be noise"),
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=3, fontsize=8)
    return figure


def _draw(axis: Axes, contrasts: list[ContrastResult], column: str, *, by_class: bool) -> None:
    axis.axvline(0, color="black", linewidth=0.8)
    shown = [(column, _OWN, "o", -0.14)]
    if by_class:
        shown.append((CLASS_RANKED[column], _BY_CLASS, "s", 0.14))
    for place, contrast in enumerate(contrasts):
        for name, colour, marker, shift in shown:
            delta = contrast.delta.get(name)
            if delta is None or delta.mean is None or delta.band95 is None:
                continue
            at, face = place + shift, "white" if delta.inside_noise else colour
            axis.plot(delta.band95, [at, at], color=colour, linewidth=1.4)
            axis.plot(delta.mean, at, color=colour, marker=marker, ms=5, mfc=face)
    axis.set_xlabel(f"Δ {heading(column)}, percent points", fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(axis="x", alpha=0.25, linewidth=0.5)
