from __future__ import annotations

from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from b2inst.experiments import TableResult
from b2inst.viz.landscape import boundary_landscape, speed_landscape


def _row(name: str, values: tuple[float, float, float] | None, group: str) -> dict[str, Any]:
    names = ("FPS", "AP", "boundary_AP")
    cells = {k: {"mean": v, "sd": None, "n": 1} for k, v in zip(names, values or (), strict=False)}
    status = "run" if values else "not run"
    paper = {"AP": 99.0}
    return {"name": name, "paper": paper, "ours": cells, "status": status, "group": group}


@pytest.fixture
def result() -> TableResult:
    rows = [
        _row("Mask R-CNN", (5.0, 43.0, 21.0), "R-50, two-stage"),
        _row("Blendmask", (40.0, 41.0, 20.0), "R-50, single-stage"),
        _row("Blendmask*", (40.0, 41.0, 20.0), "R-50, single-stage"),
        _row("B2Inst-Blend", (39.0, 44.0, 24.0), "R-50, single-stage"),
        _row("CondInst R-101", None, "R-101, single-stage"),
    ]
    columns = ["AP", "boundary_AP", "FPS"]
    content = {"table": "t", "profile": "tiny", "columns": columns, "rows": rows}
    return TableResult.model_validate({**content, "provenance": {"speed": {"device": "A chip"}}})


def _points(figure: Figure) -> dict[str, tuple[float, float]]:
    (axis,), (legend,) = figure.axes, figure.legends
    names = dict(text.get_text().split("  ", 1) for text in legend.get_texts())
    return {names[text.get_text()]: text.xy for text in axis.texts if isinstance(text, Annotation)}


def test_points_are_what_was_measured_here(result: TableResult) -> None:
    figure = speed_landscape(result)
    assert _points(figure) == {
        "Mask R-CNN": (5.0, 43.0),
        "Blendmask = Blendmask*": (40.0, 41.0),  # rows that share a run
        "B2Inst-Blend": (39.0, 44.0),
    }
    assert "A chip" in figure.axes[0].get_xlabel()
    assert _points(boundary_landscape(result))["B2Inst-Blend"] == (44.0, 24.0)


def test_tables_without_runs_give_empty_axes(result: TableResult) -> None:
    rows = [row.model_copy(update={"ours": {}}) for row in result.rows]
    figure = speed_landscape(result.model_copy(update={"rows": rows, "provenance": {}}))
    assert not figure.axes[0].texts
