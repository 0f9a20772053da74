"""Training curves from the runs' ``log.jsonl``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from b2inst.viz.figure import ROW_COLOURS, new_figure

_NOT_LOSSES = {"iteration", "lr", "seconds", "learning_rate", "images_per_second"}


def read_log(path: str | Path) -> pd.DataFrame:
    """The log of a run, a row a log line, indexed by ``iteration``.

    Nested objects become columns of their inner names, so ``{"losses": {"mask": 0.4}}`` and
    ``{"mask": 0.4}`` read the same. Of lines for the same iteration (a run that was resumed) the
    last counts.

    Raises:
        ValueError: the file has no line with an iteration.
    """
    log = pd.read_json(path, lines=True)
    if "iteration" not in log:
        raise ValueError(f"{path}: no line with an iteration in it; has the run begun to train?")
    flat = pd.json_normalize(log.to_dict(orient="records"))
    flat.columns = [str(name).rsplit(".", 1)[-1] for name in flat.columns]
    last = flat.drop_duplicates("iteration", keep="last")
    return last.set_index("iteration").sort_index()


def loss_names(logs: Sequence[pd.DataFrame]) -> list[str]:
    """Names of the losses in any of the logs: the total first, then in order of appearance."""
    found = dict.fromkeys(
        name
        for log in logs
        for name in log.select_dtypes("number").columns
        if name not in _NOT_LOSSES
    )
    return sorted(found, key=lambda name: name != "total")


def training_curves(
    logs: Mapping[str, Sequence[str | Path]], *, smoothing: float = 0.04, columns: int = 4
) -> Figure:
    """One panel a loss, one colour a row of the table; each seed is a thin line of its own.

    Args:
        logs: row name → the ``log.jsonl`` of its seeds.
        smoothing: centre of mass of the exponential mean that is drawn, as a fraction of the log's
            length; 0 draws the log as it is.
        columns: panels side by side.
    """
    frames = {name: [read_log(path) for path in paths] for name, paths in logs.items()}
    names = loss_names([frame for seeds in frames.values() for frame in seeds])
    columns = max(min(columns, len(names)), 1)
    rows = max(-(-len(names) // columns), 1)
    figure = new_figure(3.2 * columns, 2.3 * rows + 0.5)
    axes = list(figure.subplots(rows, columns, squeeze=False, sharex=True).flat)
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    colours = {name: ROW_COLOURS[i % len(ROW_COLOURS)] for i, name in enumerate(frames)}
    for axis, loss in zip(axes, names, strict=False):
        for name, seeds in frames.items():
            for frame in seeds:
                if loss in frame:
                    series = frame[loss].dropna()
                    smooth = series.ewm(com=smoothing * len(series)).mean()
                    axis.plot(smooth, color=colours[name], linewidth=1)
        axis.set_title(loss, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25, linewidth=0.5)
    figure.supxlabel("iteration", fontsize=9)
    handles = [Line2D([], [], color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), fontsize=8)
    return figure
