"""The measurements themselves are tested in tests/evaluation; here: runs, seeds, files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from b2inst.experiments.specs.errors import RunError
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.tables import score_quality as module
from b2inst.experiments.tables.score_quality import (
    ScoreQuality,
    quality_markdown,
    score_quality,
)
from b2inst.experiments.tables.table_result import Measured, ResultRow, TableResult


def result_of(rows: dict[str, list[str]]) -> TableResult:
    return TableResult(
        table="table1",
        profile="smoke",
        columns=["AP"],
        rows=[ResultRow(name=n, paper={}, runs=runs, status="run") for n, runs in rows.items()],
        provenance={"split": "test", "images": 3, "seeds": [0], "data": "scenes"},
    )


def test_a_model_that_has_learned_nothing_has_a_report(finished: Any) -> None:
    _, workspace, run = finished
    result = result_of({"baseline": [run.hash]})
    quality = score_quality(result, workspace)
    assert quality.rows == []
    assert "No row" in quality_markdown(quality)


def test_rated_detections_of_two_seeds(
    finished: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, source, run = finished
    shutil.copytree(source.root, tmp_path / "copy")
    workspace = Workspace(tmp_path / "copy")
    shutil.copytree(workspace.runs / run.hash, workspace.runs / "second")
    truth = json.loads(next(workspace.data.glob("*/annotations/instances_test.json")).read_text())
    rng = np.random.default_rng(0)
    # Perfect masks, rated by chance.
    records = [
        {
            **{key: a[key] for key in ("image_id", "category_id", "bbox", "segmentation")},
            **{k: float(rng.random()) for k in ("score", "class_score", "iou_score")},
        }
        for a in truth["annotations"]
    ]
    monkeypatch.setattr(module, "read_predictions", lambda path: records)
    result = result_of({"HBB+MS": [run.hash, "second"]})
    quality = score_quality(result, workspace)
    (row,) = quality.rows
    assert row.of_object == 2 * len(records)
    assert sum(b.count for b in row.calibration["iou"]) == 2 * len(records)
    assert {b.true for b in row.calibration["iou"]} <= {None, 1.0}
    predicted = [record["iou_score"] for record in records]
    error = row.calibration_error["iou"]
    assert error == Measured(mean=error.mean, sd=0.0, n=2)
    assert error.mean == pytest.approx(1 - np.mean(predicted))
    assert row.correlation["mask"]["iou"].mean is None, "the truth is constant"
    assert row.ap["AP"]["oracle"].mean == pytest.approx(100)
    assert row.reached["AP"] is None, "S_class alone is at the ceiling already"
    text = quality_markdown(quality)
    assert "| HBB+MS | AP | 100.0 ± 0.0 | 100.0 ± 0.0 | 100.0 ± 0.0 | – | 100.0 ± 0.0 | – |" in text

    folder = workspace.results / "smoke/table1"
    stored = json.loads((folder / "score_quality.json").read_text())
    assert ScoreQuality.model_validate(stored) == quality
    assert stored["rows"][0]["runs"] == [run.hash, "second"]
    assert (folder / "score_quality.md").read_text() == text


def test_a_run_that_is_gone_is_named(workspace: Workspace) -> None:
    with pytest.raises(RunError, match=r"runs/abc/test/predictions.*b2inst table table1"):
        score_quality(result_of({"HBB": ["abc"]}), workspace)
