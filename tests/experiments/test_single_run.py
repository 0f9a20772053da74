from __future__ import annotations

from pathlib import Path

import pytest

from b2inst.experiments.profile import load_profile
from b2inst.experiments.single_run import full_model, single_run
from b2inst.experiments.store import open_run
from b2inst.experiments.table_spec import load_table
from b2inst.experiments.workspace import Workspace
from b2inst.models import create_model
from b2inst.weights import save_model


def weights(path: Path, **options: object) -> Path:
    save_model(create_model("blendmask-tiny", num_classes=3, **options), path)
    return path


def test_a_run_is_the_profiles() -> None:
    plan = load_profile("smoke")
    spec = single_run("b2inst-yolact-tiny", plan, options={"scoring": ["iou"]}, seed=4)
    assert spec == plan.run_spec("b2inst-yolact", {"scoring": ["iou"]}, 4)
    assert spec.start is None


def test_models_of_another_size_go_by_their_own_name() -> None:
    assert single_run("blendmask-r18", load_profile("smoke")).model == "blendmask-r18"


def test_weights_bring_their_arrangement_unless_told_otherwise(tmp_path: Path) -> None:
    start = weights(tmp_path / "m.safetensors", attention_size=5)
    plan = load_profile("smoke")  # which says attention_size 7
    spec = single_run("b2inst-blendmask-tiny", plan, start=start)
    assert spec.options["attention_size"] == 5
    assert spec.start is not None
    assert spec.start.path == start
    told = single_run("b2inst-blendmask-tiny", plan, options={"attention_size": 9}, start=start)
    assert told.options["attention_size"] == 9


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"gone\.safetensors") as caught:
        single_run("blendmask-tiny", load_profile("smoke"), start=tmp_path / "gone.safetensors")
    assert type(caught.value).__module__.startswith("b2inst.")


def test_the_full_model_is_table_1s_last_row(tmp_path: Path, specs: Path) -> None:
    (tmp_path / "experiments").symlink_to(specs)
    workspace = Workspace(tmp_path)
    assert full_model("smoke", workspace) is None
    rows = load_table("table1").run_specs(load_profile("smoke"), (0,))
    run = open_run(workspace.runs, list(rows.values())[-1][0])
    run.folder.mkdir(parents=True)
    assert full_model("smoke", workspace) is None
    weights(run.model_path)
    assert full_model("smoke", workspace) == run.model_path
