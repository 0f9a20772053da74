"""What stands beside a table: designs, training curves, its rows on the same images, costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from b2inst.data import CocoIndex
from b2inst.evaluation import Prediction, read_predictions
from b2inst.experiments.runs.datasets import load_split, prepare
from b2inst.experiments.runs.store import Run
from b2inst.experiments.specs.errors import RunError
from b2inst.experiments.specs.profile import load_profile
from b2inst.experiments.specs.table_spec import TableSpec
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.tables.speed import TableSpeed
from b2inst.experiments.tables.table_result import TableResult
from b2inst.models import create_model, with_bases
from b2inst.viz.boundaries import boundary_figure
from b2inst.viz.choose import Choice, choose_images
from b2inst.viz.contrasts import contrasts_figure
from b2inst.viz.curves import training_curves
from b2inst.viz.diagram import diagram_figure
from b2inst.viz.differences import differences_figure
from b2inst.viz.explore.inspection import examples
from b2inst.viz.explore.plots import examples_figure
from b2inst.viz.explore.sources import Dataset
from b2inst.viz.figure import save_figure
from b2inst.viz.landscape import boundary_landscape, speed_landscape
from b2inst.viz.qualitative import qualitative_figure
from b2inst.viz.speed import speed_figure, stages_figure
from b2inst.viz.strip import strip_figure
from b2inst.viz.wiring import find_wiring
from b2inst.weights import load_model


def save_designs(table: TableSpec, profile: str, workspace: Workspace) -> Path:
    """A diagram of each row's model, as ``designs.png``; the models are built, not trained."""
    plan = load_profile(profile, workspace=workspace)
    wirings = {}
    for name, (spec, *_) in table.run_specs(plan, (0,)).items():
        options: dict[str, Any] = {k: v for k, v in spec.options.items() if k != "backbone_weights"}
        model = create_model(spec.model, num_classes=1, **options)
        wirings[name] = find_wiring(with_bases(model))
    path = workspace.results / plan.name / table.name / "designs.png"
    return save_figure(diagram_figure(wirings), path)


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
        best, drawn: how many images by gain and at random (see ``choose_images``).

    Raises:
        RunError: a row was not run, or its run's folder is not here any more.
    """
    index, choices, a, b = _chosen(result, workspace, first, second, best, drawn)
    model = with_bases(load_model(_runs(result, second, workspace)[0].model_path))
    figure = qualitative_figure(index, choices, a, b, names=names, model=model)
    return save_figure(figure, _folder(result, workspace) / "qualitative.png")


def save_boundaries(
    result: TableResult,
    workspace: Workspace,
    *,
    first: str,
    second: str,
    best: int = 2,
    drawn: int = 1,
) -> Path:
    """The boundary that each row predicts, by its first seed, as ``boundaries.png``.

    Args:
        first, second: names of the rows whose difference chooses the images (``choose_images``).
        best, drawn: how many images by gain and at random.

    Raises:
        RunError: one of the two was not run, or a run's folder is not here any more.
    """
    index, choices, *_ = _chosen(result, workspace, first, second, best, drawn)
    runs = {row.name: _runs(result, row.name, workspace)[0] for row in result.rows if row.runs}
    models = {name: with_bases(load_model(run.model_path)) for name, run in runs.items()}
    figure = boundary_figure(index, choices, models)
    return save_figure(figure, _folder(result, workspace) / "boundaries.png")


def save_strip(result: TableResult, workspace: Workspace, *, drawn: int = 1) -> Path:
    """All rows by their first seed, in the layout of the paper's Fig. 5, as ``qualitative.png``.

    The images: of each row that has a base the one where it gains most over it
    (``choose_images``), and some at random.

    Args:
        drawn: how many at random.

    Raises:
        RunError: a row was not run, or its run's folder is not here any more.
    """
    found: dict[str, list[Prediction]] = {}
    choices: dict[int, Choice] = {}
    pairs = [(row.base, row.name) for row in result.rows if row.base is not None]
    for base, name in pairs:
        last = (base, name) == pairs[-1]
        index, chosen, found[base], found[name] = _chosen(
            result, workspace, base, name, best=1, drawn=drawn if last else 0
        )
        for choice in chosen:
            reason = f"{choice.reason}\n{name}"
            choices.setdefault(choice.image_id, replace(choice, reason=reason))
    models = {
        name: with_bases(load_model(_runs(result, name, workspace)[0].model_path)) for name in found
    }
    figure = strip_figure(index, list(choices.values()), found, models)
    return save_figure(figure, _folder(result, workspace) / "qualitative.png", dpi=144)


def save_contrasts(result: TableResult, workspace: Workspace) -> Path:
    """What the table asks, and the differences that answer it, as ``contrasts.png``."""
    return save_figure(contrasts_figure(result), _folder(result, workspace) / "contrasts.png")


def save_forming(result: TableResult, workspace: Workspace, row: str) -> Path:
    """How masks of a row's first run form, as ``forming.png``; see ``examples_figure``.

    Raises:
        RunError: the row was not run, its run's folder is not here any more, or it finds no object.
    """
    run = _runs(result, row, workspace)[0]
    data = prepare(run.spec().data, workspace.data)
    samples = Dataset(load_split(data, data.report_split, workspace.data))
    found = examples(with_bases(load_model(run.model_path)), samples, candidates=40)
    if not found:
        raise RunError(f"row '{row}' of {result.table}: it finds no object; train it longer")
    return save_figure(examples_figure(found), _folder(result, workspace) / "forming.png")


def save_differences(result: TableResult, workspace: Workspace) -> Path:
    """Differences to the base rows with their bands, as ``differences.png``."""
    return save_figure(differences_figure(result), _folder(result, workspace) / "differences.png")


def save_speed(result: TableResult, workspace: Workspace) -> Path:
    """AP against images a second, as ``speed.png``."""
    return save_figure(speed_figure(result), _folder(result, workspace) / "speed.png")


def save_landscapes(result: TableResult, workspace: Workspace) -> tuple[Path, Path]:
    """Mask AP against speed and boundary AP against mask AP: ``ap_speed.png``, ``ap_boundary.png``.

    Only what was measured here is shown.
    """
    folder = _folder(result, workspace)
    return (
        save_figure(speed_landscape(result), folder / "ap_speed.png"),
        save_figure(boundary_landscape(result), folder / "ap_boundary.png"),
    )


def save_stages(result: TableResult, workspace: Workspace) -> Path:
    """Where the time of each row's predictions goes, as ``stages.png``.

    Raises:
        RunError: the rows' speed has not been measured.
    """
    folder = _folder(result, workspace)
    speed = TableSpeed.load(folder / "speed.json")
    return save_figure(stages_figure(speed.benchmark), folder / "stages.png")


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


def _chosen(
    result: TableResult, workspace: Workspace, first: str, second: str, best: int, drawn: int
) -> tuple[CocoIndex, list[Choice], list[Prediction], list[Prediction]]:
    """The data that two rows report on, images of it to show, and what their first runs predict."""
    runs = [_runs(result, row, workspace)[0] for row in (first, second)]
    data = prepare(runs[0].spec().data, workspace.data)
    index = load_split(data, data.report_split, workspace.data)
    label = result.provenance["split"]
    a, b = (list(read_predictions(run.predictions_path(label))) for run in runs)
    return index, choose_images(index, a, b, best=best, drawn=drawn), a, b


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
