"""The figures beside a table, and what its runs cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from b2inst.data import CocoIndex
from b2inst.evaluation import read_predictions
from b2inst.experiments import Run, RunError, TableResult, TableSpec, Workspace, load_profile
from b2inst.experiments.tables.build import evaluated_split, finished_runs
from b2inst.experiments.tables.score_quality import ScoreQuality
from b2inst.experiments.tables.speed import TableSpeed
from b2inst.models import BasisSegmenter, create_model, with_bases
from b2inst.viz import charts
from b2inst.viz.choose import Choice, ImagePredictions, candidates, choose, image_gains, visible
from b2inst.viz.diagram import diagram_figure
from b2inst.viz.explore.inspection import examples
from b2inst.viz.explore.plots import examples_figure
from b2inst.viz.explore.sources import Dataset
from b2inst.viz.figure import save_figure
from b2inst.viz.qualitative import comparison_figure
from b2inst.weights import load_model


class TableFigures:
    """Draws the figures of a table and saves them beside it, in ``results/<profile>/<table>/``.

    Figures that need a run raise RunError if the row was not run or its folder is gone.

    Args:
        result: The table.
        workspace: Where its runs and results are.
    """

    def __init__(self, result: TableResult, workspace: Workspace) -> None:
        self.result = result
        self.workspace = workspace

    def curves(self) -> Path:
        """Draw the training curves of all rows that were run, a line per seed."""
        logs = {name: [run.log() for run in self._runs(name)] for name in self._run_rows}
        return self._save(charts.training_curves(logs), "curves")

    def calibration(self, quality: ScoreQuality) -> Path:
        """Draw the calibration of the scoring heads in the colours of the training curves."""
        names = [row.name for row in self.result.rows]
        return self._save(charts.calibration_figure(quality.rows, names), "calibration")

    def qualitative(self, pairs: Sequence[tuple[str, str]], *, best: int = 2) -> Path:
        """Compare rows, by their first seeds, in the layout of the paper's Figs. 4 and 5.

        Args:
            pairs: Pairs of rows, such as a baseline and B2Inst.
            best: Number of images of largest gain for each pair; the last has a random one, too.
        """
        index = candidates(self._index(pairs[0][0]))
        predictions = {name: self._predictions(name, index) for pair in pairs for name in pair}
        choices: dict[int, Choice] = {}
        for first, second in pairs:
            gains = image_gains(index, predictions[first], predictions[second])
            last = (first, second) == pairs[-1]
            for choice in choose(gains, index.annotations, best=best, at_random=int(last)):
                named = replace(choice, reason=f"{choice.reason}\n{second}")
                choices.setdefault(choice.id, named)
        models = {second: self._model(second) for _, second in pairs}
        width = 12 / (3 * len(pairs) + 1)
        figure = comparison_figure(index, [*choices.values()], predictions, models, width=width)
        return self._save(figure, "qualitative")

    def boundaries(self, first: str, second: str) -> Path:
        """Draw the boundaries that all rows predict.

        Args:
            first: Row that the images are chosen by, two of largest gain and one at random.
            second: Row whose gain is measured.
        """
        index = candidates(self._index(first))
        gains = image_gains(index, *(self._predictions(row, index) for row in (first, second)))
        choices = choose(gains, index.annotations, best=2, at_random=1)
        models = {name: self._model(name) for name in self._run_rows}
        figure = comparison_figure(index, choices, {}, models, target=True, width=2.7)
        return self._save(figure, "boundaries")

    def forming(self, row: str) -> Path:
        """Draw how masks of a row with a refinement form; RunError if it finds no object."""
        found = examples(self._model(row), Dataset(self._index(row)), candidates=40)
        if not found:
            raise RunError(f"row '{row}' of {self.result.table}: no object found; train it longer")
        return self._save(examples_figure(found), "forming")

    def contrasts(self) -> Path:
        """Draw the questions that the table asks, and the differences that answer them."""
        return self._save(charts.contrasts_figure(self.result), "contrasts")

    def differences(self) -> Path:
        """Draw the differences from the base rows."""
        return self._save(charts.differences_figure(self.result), "differences")

    def tradeoffs(self) -> Path:
        """Draw speed against mask AP, and mask AP against boundary AP."""
        return self._save(charts.tradeoff_figure(self.result), "tradeoffs")

    def stages(self) -> Path:
        """Draw where the time of each row's predictions goes; RunError if it was not measured."""
        speed = TableSpeed.load(self.result.folder(self.workspace) / "speed.json")
        return self._save(charts.stages_figure(speed.benchmark), "stages")

    def _save(self, figure: Figure, name: str) -> Path:
        return save_figure(figure, self.result.folder(self.workspace) / f"{name}.png")

    @property
    def _run_rows(self) -> list[str]:
        return [row.name for row in self.result.rows if row.runs]

    def _index(self, row: str) -> CocoIndex:
        return evaluated_split(self.result, self._runs(row)[0], self.workspace)

    def _predictions(self, row: str, index: CocoIndex) -> ImagePredictions:
        path = self._runs(row)[0].predictions_path(self.result.provenance["split"])
        return visible(read_predictions(path), index)

    def _model(self, row: str) -> BasisSegmenter:
        return with_bases(load_model(self._runs(row)[0].model_path))

    def _runs(self, row: str) -> list[Run]:
        return finished_runs(self.result, row, self.workspace)


def save_designs(table: TableSpec, profile: str, workspace: Workspace) -> Path:
    """Draw a diagram of each row's model, which is built and not trained, as ``designs.png``."""
    plan = load_profile(profile, workspace=workspace)
    models = {}
    for name, (spec, *_) in table.run_specs(plan, (0,)).items():
        options: dict[str, Any] = {**spec.options}
        options.pop("backbone_weights", None)
        models[name] = with_bases(create_model(spec.model, num_classes=1, **options))
    path = workspace.results / plan.name / table.name / "designs.png"
    return save_figure(diagram_figure(models), path)


def cost_frame(result: TableResult) -> pd.DataFrame:
    """List row, seed, machine, minutes and peak memory of each run, indexed by its hash."""
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
