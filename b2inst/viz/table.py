"""What stands beside a table: training curves, two of its rows on the same images, costs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from b2inst.evaluation import read_predictions
from b2inst.experiments.datasets import load_split, prepare
from b2inst.experiments.errors import RunError
from b2inst.experiments.store import Run
from b2inst.experiments.table_result import TableResult
from b2inst.experiments.workspace import Workspace
from b2inst.viz.choose import choose_images
from b2inst.viz.curves import training_curves
from b2inst.viz.figure import save_figure
from b2inst.viz.qualitative import qualitative_figure
from b2inst.weights import load_model


def save_curves(result: TableResult, workspace: Workspace) -> Path:
    """Training curves of all rows that were run, a line a seed, as ``curves.png``.

    Raises:
        RunError: a run's folder is not here any more.
    """
    runs = {row.name: _runs(result, row.name, workspace) for row in result.rows if row.runs}
    figure = training_curves({name: [run.log() for run in of] for name, of in runs.items()})
    return save_figure(figure, _folder(result, workspace) / "curves.png")


def save_comparison(
    result: TableResult,
    workspace: Workspace,
    *,
    first: str,
    second: str,
    names: tuple[str, str],
    best: int = 2,
    drawn: int = 1,
) -> Path:
    """Two rows, by their first seed, in the layout of the paper's Fig. 4, as ``qualitative.png``.

    Args:
        first, second: names of the rows; the boundary basis shown is the second's.
        names: what the figure calls them.
        best, drawn: how many images by gain and by lot (see ``choose_images``).

    Raises:
        RunError: a row was not run, or its run's folder is not here any more.
    """
    runs = [_runs(result, row, workspace)[0] for row in (first, second)]
    data = prepare(runs[0].spec().data, workspace.data)
    index = load_split(data, data.report_split, workspace.data)
    label = result.provenance["split"]
    a, b = (read_predictions(run.predictions_path(label)) for run in runs)
    choices = choose_images(index, a, b, best=best, drawn=drawn)
    model = load_model(runs[1].model_path)
    figure = qualitative_figure(index, choices, a, b, names=names, model=model)
    return save_figure(figure, _folder(result, workspace) / "qualitative.png")


def cost_frame(result: TableResult) -> pd.DataFrame:
    """A line a run: its row, seed, machine, minutes and peak memory, indexed by its hash."""
    costs = result.provenance["runs"]
    lines = {
        name: {
            "row": row.name,
            "seed": costs[name]["seed"],
            "device": costs[name]["device"],
            "minutes": round(costs[name]["wall_seconds"] / 60, 1),
            "peak memory [GB]": round((costs[name]["peak_memory_mb"] or 0) / 1000, 2) or None,
            "commit": (costs[name]["commit"] or "unknown")[:12],
        }
        for row in result.rows
        for name in row.runs
    }
    return pd.DataFrame.from_dict(lines, orient="index").rename_axis("run")


def _runs(result: TableResult, row: str, workspace: Workspace) -> list[Run]:
    runs = [Run(workspace.runs / name) for name in result.row(row).runs]
    missing = next((run.folder for run in runs if not run.model_path.is_file()), None)
    if not runs or missing is not None:
        raise RunError(
            f"row '{row}' of {result.table}: no finished run at "
            f"{workspace.shown(missing or workspace.runs)}; make it with `make {result.table} "
            f"PROFILE={result.profile}`"
        )
    return runs


def _folder(result: TableResult, workspace: Workspace) -> Path:
    return workspace.results / result.profile / result.table
