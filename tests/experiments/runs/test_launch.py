"""One bar over runs that work elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from b2inst.experiments.runs.launch import Progress, last_iteration
from b2inst.experiments.runs.store import open_run
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace


def _log(workspace: Workspace, spec: RunSpec, iteration: int) -> None:
    run = open_run(workspace.runs, spec)
    run.folder.mkdir(parents=True, exist_ok=True)
    run.begin(spec)
    run.log_path.write_text(json.dumps({"iteration": iteration, "lr": 0.1}) + "\n")


def test_it_begins_where_the_runs_stand(
    spec: RunSpec, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    specs = {name: spec.model_copy(update={"seed": i}) for i, name in enumerate("abcd")}
    _log(workspace, specs["a"], 3)
    _log(workspace, specs["b"], 2)
    first = {"a": specs.pop("a")}
    with Progress(specs, workspace, complete=first) as bar:
        # "a" with its evaluation is 3.3 of 13.2 in all, "b" has 2 of its 3 iterations.
        assert f"{100 * (3.3 + 2) / 13.2:3.0f}%" in capsys.readouterr().err
        _log(workspace, specs["b"], 3)
        bar.show(["b"], {})
        assert bar._bar.n == pytest.approx(6.3)
        assert bar._bar.desc.startswith("1 of 4 runs complete, b evaluating, 2 in the queue")
        bar.show(["c"], {"b": None})
        assert bar._bar.n == pytest.approx(6.6)
        assert bar._bar.desc.startswith("2 of 4 runs complete, c preparing, 1 in the queue")
        bar.show([], {"b": None, "c": "DataError: no image", "d": None})
        assert bar._bar.desc.startswith("3 of 4 runs complete, 1 failed")


def test_the_last_whole_line_of_a_log_counts(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert last_iteration(log) == 0
    log.write_text('{"iteration": 10}\n{"iteration": 20}\n{"iteration": 3')
    assert last_iteration(log) == 20
    log.write_text("".join(f'{{"iteration": {i}, "pad": "{"x" * 90}"}}\n' for i in range(500)))
    assert last_iteration(log) == 499
