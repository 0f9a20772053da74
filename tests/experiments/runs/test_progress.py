"""The bar over runs that work elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from b2inst.experiments.runs.progress import COMPLETE, QUEUED, RUNNING, Progress
from b2inst.experiments.runs.store import open_run
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace


@pytest.fixture
def specs(spec: RunSpec) -> dict[str, RunSpec]:
    """Three runs of three iterations."""
    return {name: spec.model_copy(update={"seed": i}) for i, name in enumerate("abc")}


def _log(workspace: Workspace, spec: RunSpec, iteration: int) -> None:
    run = open_run(workspace.runs, spec)
    run.folder.mkdir(parents=True, exist_ok=True)
    run.begin(spec)
    run.log_path.write_text(json.dumps({"iteration": iteration, "lr": 0.1}) + "\n")


def test_it_begins_where_the_runs_stand(
    specs: dict[str, RunSpec], workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    _log(workspace, specs["b"], 2)
    with Progress(specs, workspace, enabled=True, done=["a"]) as bar:
        said: Any = capsys.readouterr().err
        # "a" with its evaluation is 3.3 of 9.9 in all, "b" has 2 of its 3 iterations.
        assert f"{100 * (3.3 + 2) / 9.9:3.0f}%" in said
        _log(workspace, specs["b"], 3)
        bar.show({"b": RUNNING, "c": QUEUED})
        assert "1 of 3 runs complete, b evaluating, 1 in the queue" in bar._bar.desc
        bar.show({"b": COMPLETE, "c": RUNNING})
        assert bar._bar.n == pytest.approx(6.6)
        assert "2 of 3 runs complete, c preparing" in bar._bar.desc
        bar.show({"b": COMPLETE, "c": "DataError: no image"})
        assert bar._bar.n == pytest.approx(bar._bar.total)
        assert "2 of 3 runs complete, 1 failed" in bar._bar.desc


def test_a_log_line_that_is_half_written_does_not_count(
    specs: dict[str, RunSpec], workspace: Workspace, tmp_path: Path
) -> None:
    _log(workspace, specs["a"], 2)
    path = open_run(workspace.runs, specs["a"]).log_path
    path.write_text(path.read_text() + '{"iterat')
    with Progress(specs, workspace, enabled=True) as bar:
        assert bar._bar.n == 2
