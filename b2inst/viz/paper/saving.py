"""Figures on disk: what was drawn with its record, or why it could not be."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from b2inst.experiments.runs.provenance import describe_machine
from b2inst.experiments.runs.store import write_json
from b2inst.viz.figure import save_print
from b2inst.viz.paper.figures import FIGURES
from b2inst.viz.paper.material import Material


@dataclass(frozen=True)
class Saved:
    """A figure on disk, or the reason why it is not; notebooks show either."""

    name: str
    caption: str
    path: Path | None  #: of the PNG; the PDF lies beside it
    record: dict[str, Any]  #: for ``figures.json``

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any] | tuple[dict[str, Any], dict[str, Any]]:
        if self.path is None:
            return {"text/markdown": f"*Not drawn.* {self.caption}"}
        return {"image/png": self.path.read_bytes()}, {"image/png": {"width": 900}}


def save(name: str, material: Material) -> Saved:
    """Draw a figure and write it to ``results/<profile>/figures/``, as PDF and PNG.

    Where a model it needs is not trained, nothing is drawn and the result says what to run.

    Args:
        name: of ``FIGURES``.
    """
    figure = FIGURES[name]
    if missing := material.missing(figure.families):
        return Saved(name, missing, None, {"name": name, "missing": missing})
    drawing = figure.draw(material)
    path = save_print(drawing.figure, folder(material) / f"{name}.png")
    record = {
        "name": name,
        "caption": drawing.caption,
        "split": drawing.models[0].split,
        "models": [
            {
                "name": model.name,
                "row": model.row,
                "runs": [run.hash for run in model.runs.values()],
            }
            for model in drawing.models
        ],
        "chosen": [asdict(choice) for choice in drawing.choices],
        "counts": drawing.counts,
    }
    return Saved(name, drawing.caption, path, record)


def left_out(material: Material) -> dict[str, list[str]]:
    """The figures that cannot be drawn, by what their models lack and what to run."""
    found: dict[str, list[str]] = {}
    for name, figure in FIGURES.items():
        if missing := material.missing(figure.families):
            found.setdefault(missing, []).append(name)
    return found


def make_figures(material: Material) -> list[Saved]:
    """Write all figures that can be drawn, and what they show as ``figures.json``."""
    saved = [save(name, material) for name in tqdm(FIGURES, desc="figures", unit="figure")]
    records = {"figures": [one.record for one in saved], "provenance": describe_machine()}
    write_json(folder(material) / "figures.json", records)
    return saved


def folder(material: Material) -> Path:
    """Where the figures of a profile lie."""
    return material.workspace.results / material.plan.name / "figures"
