"""A run does what is missing, and nothing twice."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from b2inst.experiments.runs import code_version, runner
from b2inst.experiments.runs.datasets import prepare
from b2inst.experiments.runs.measuring import RESAMPLES
from b2inst.experiments.runs.runner import (
    build_model,
    is_complete,
    run,
    warn_of_stale,
)
from b2inst.experiments.runs.store import Run, RunStatus, write_json
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace

CLASSES = ("a", "b")


def _times(folder: Path) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("[!.]*") if p.is_file()}


def test_run_leaves_everything_behind(finished: tuple[RunSpec, Workspace, Run]) -> None:
    spec, _, done = finished
    assert done.status is RunStatus.TRAINED
    assert done.spec() == spec
    assert [line["iteration"] for line in done.log()] == [1, 2, 3]
    evaluation = done.metrics("test")
    assert evaluation is not None
    assert evaluation["images"] == 3
    assert {"AP", "boundary_AP", "box_AP"} <= evaluation["metrics"].keys()
    arrays = done.resampled("test")
    assert {len(values) for values in arrays.values()} == {RESAMPLES + 1}
    for column, values in arrays.items():
        expected = evaluation["metrics"][column]
        assert np.isnan(values[0]) if expected is None else values[0] == pytest.approx(expected)

    facts = done.provenance()
    assert facts["spec_hash"] == spec.hash
    assert facts["data"]["train"]["images"] == 4
    assert facts["data"]["test"]["images"] == 3
    assert list(facts["steps"]) == ["train", "predict test", "evaluate test"]


def test_nothing_is_done_twice(finished: tuple[RunSpec, Workspace, Run]) -> None:
    spec, workspace, done = finished
    before = _times(done.folder)
    assert is_complete(done, spec, "test")
    run(spec, workspace, progress=False)
    assert _times(done.folder) == before


def test_metrics_are_measured_again_without_inference(
    finished: tuple[RunSpec, Workspace, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, workspace, done = finished
    metrics = done.metrics("test")
    done.metrics_path("test").unlink()
    monkeypatch.setattr(runner, "load_model", lambda *_, **__: pytest.fail("inference"))
    run(spec, workspace, progress=False)
    assert done.metrics("test") == metrics


def test_other_bins_or_evaluation_code_ask_for_new_metrics(
    finished: tuple[RunSpec, Workspace, Run],
) -> None:
    spec, _, done = finished
    data = spec.data.model_copy(update={"area_bounds": (50.0, 60.0)})
    rebinned = spec.model_copy(update={"data": data})
    assert rebinned.hash == spec.hash
    assert not is_complete(done, rebinned, "test")
    assert not is_complete(done, spec, "val")

    path = done.metrics_path("test")
    content = json.loads(path.read_text())
    narrow = {**content, "boundary_pixels": 2}  # of a profile with the same runs
    for other in ({**content, "code": "0" * 12}, narrow):
        write_json(path, other)
        assert not is_complete(done, spec, "test")
    write_json(path, content)
    assert is_complete(done, spec, "test")


def test_other_prediction_code_asks_for_new_predictions(
    finished: tuple[RunSpec, Workspace, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, workspace, done = finished
    assert done.provenance()["predictions"] == {"test": code_version.PREDICTION}
    before, metrics = _times(done.folder), done.metrics("test")
    monkeypatch.setattr(code_version, "PREDICTION", 7)
    assert not is_complete(done, spec, "test")
    with monkeypatch.context() as killed:
        killed.setattr(runner, "measure", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(spec, workspace, progress=False)
    assert not is_complete(done, spec, "test")
    run(spec, workspace, progress=False)
    assert is_complete(done, spec, "test")
    assert done.provenance()["predictions"] == {"test": 7}
    assert done.metrics("test") == metrics
    path = str(done.predictions_path("test"))
    assert _times(done.folder)[path] > before[path]
    assert _times(done.folder)[str(done.model_path)] == before[str(done.model_path)]


def test_other_code_is_a_loud_warning(
    finished: tuple[RunSpec, Workspace, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, done = finished
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_stale({"baseline": done})
    monkeypatch.setattr(code_version, "TRAINING", 7)
    with pytest.warns(UserWarning, match=rf"baseline \({done.hash}\).*version 7; .*--rerun"):
        warn_of_stale({"baseline": done})


def test_an_interrupted_run_ends_as_one_that_was_not(
    finished: tuple[RunSpec, Workspace, Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec, _, whole = finished
    workspace = Workspace(tmp_path)
    prepare(spec.data, workspace.data)
    trained: Any = runner.train

    def dies(model: torch.nn.Module, dataset: Any, **arguments: Any) -> None:
        calls = 0

        def count(*_: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == 3:  # in the third iteration, with a checkpoint after the second
                raise RuntimeError("pulled the plug")

        model.register_forward_pre_hook(count)
        trained(model, dataset, **arguments)

    monkeypatch.setattr(runner, "train", dies)
    with pytest.raises(RuntimeError, match="plug"):
        run(spec, workspace, progress=False)
    monkeypatch.setattr(runner, "train", trained)
    # The way a run logs may change meanwhile: it goes on as it was begun.
    schedule = spec.schedule.model_copy(update={"log_every": 2})
    resumed = run(spec.model_copy(update={"schedule": schedule}), workspace, progress=False)

    assert resumed.provenance()["steps"]["train"]["sessions"] == 2
    assert [line["iteration"] for line in resumed.log()] == [1, 2, 3]
    ours, theirs = load_file(resumed.model_path), load_file(whole.model_path)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert resumed.metrics("test") == whole.metrics("test")


def test_how_the_machine_is_used_reaches_the_training(
    spec: RunSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def records(*_: Any, **options: Any) -> None:
        given.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "train", records)
    machine = Resources(workers=3, device="cpu", recompute=True)
    with pytest.raises(KeyboardInterrupt):
        run(spec, workspace, machine=machine, progress=False)
    assert (given["num_workers"], given["device"]) == (3, "cpu")
    assert given["recompute"] is True


def test_a_run_has_as_many_threads_as_the_machine_gives_it(
    spec: RunSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(runner._Session, "train", lambda _: seen.append(torch.get_num_threads()))
    monkeypatch.setattr(runner, "is_complete", lambda *_: True)
    before = torch.get_num_threads()
    run(spec, workspace, machine=Resources(threads=before + 1), progress=False)
    assert (seen, torch.get_num_threads()) == ([before + 1], before)


def test_initial_weights_come_from_the_seed(spec: RunSpec) -> None:
    def weights(seed: int) -> torch.Tensor:
        model = build_model(spec.model_copy(update={"seed": seed}), class_names=CLASSES)
        return torch.cat([p.flatten() for p in model.parameters()])

    torch.rand(3)
    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "blendmask-huge"}, "^unknown model 'blendmask-huge'"),
        ({"options": {"colour": "red"}}, "^blendmask-tiny has no option colour; "),
        ({"options": {"num_classes": 4}}, "^blendmask-tiny: options: leave out num_classes"),
        ({"options": {"name": "x", "class_names": ["c"]}}, "leave out class_names, name"),
        ({"options": {"frozen_norm": True}}, "^blendmask-tiny: frozen_norm: not with the backbone"),
    ],
)
def test_impossible_models_are_told_in_one_line(
    spec: RunSpec, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        build_model(spec.model_copy(update=change), class_names=CLASSES)


def test_an_error_inside_a_model_is_no_wrong_option(
    spec: RunSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(*_: Any, **__: Any) -> None:
        raise TypeError("unsupported operand")

    monkeypatch.setattr(runner, "create_model", create)
    with pytest.raises(TypeError, match="unsupported operand"):
        build_model(spec, class_names=CLASSES)
