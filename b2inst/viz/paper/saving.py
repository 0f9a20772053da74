"""The paper's figures on disk, or why one could not be drawn."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from b2inst.experiments.runs.provenance import describe_machine
from b2inst.experiments.runs.store import write_json
from b2inst.viz.figure import save_print
from b2inst.viz.paper.figures import FIGURES
from b2inst.viz.paper.models import TrainedModels


@dataclass(frozen=True)
class SavedFigure:
    """A saved figure, or the reason why there is none; notebooks display either."""

    path: Path | None  #: of the PNG; the PDF is beside it
    record: dict[str, Any]  #: entry of ``figures.json``

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any] | tuple[dict[str, Any], dict[str, Any]]:
        if self.path is None:
            return {"text/markdown": f"*Not drawn.* {self.record['missing']}"}
        return {"image/png": self.path.read_bytes()}, {"image/png": {"width": 900}}


def save(name: str, models: TrainedModels) -> SavedFigure:
    """Draw a figure of ``FIGURES`` and write it to ``results/<profile>/figures/``, as PDF and PNG.

    If a model that it needs is not trained, nothing is drawn and the record says what to run.
    """
    figure = FIGURES[name]
    if missing := models.missing(figure.families):
        return SavedFigure(None, {"name": name, "missing": missing})
    drawing = figure.draw(models)
    shown = [models[family] for family in figure.families]
    record = {
        "name": name,
        "caption": drawing.caption,
        "split": models.split,
        "models": [{"name": m.name, "row": m.row, "runs": [m.run.hash]} for m in shown],
        "chosen": [asdict(choice) for choice in drawing.choices],
    }
    return SavedFigure(save_print(drawing.figure, _folder(models) / f"{name}.png"), record)


def save_all(models: TrainedModels) -> list[SavedFigure]:
    """Save all figures that can be drawn, and what they show as ``figures.json``."""
    saved = [save(name, models) for name in tqdm(FIGURES, desc="figures", unit="figure")]
    records = {"figures": [one.record for one in saved], "provenance": describe_machine()}
    write_json(_folder(models) / "figures.json", records)
    return saved


def missing_models(models: TrainedModels) -> dict[str, list[str]]:
    """List the figures that cannot be drawn, by what to run first."""
    found: dict[str, list[str]] = {}
    for name, figure in FIGURES.items():
        if missing := models.missing(figure.families):
            found.setdefault(missing, []).append(name)
    return found


def _folder(models: TrainedModels) -> Path:
    return models.workspace.results / models.plan.name / "figures"
