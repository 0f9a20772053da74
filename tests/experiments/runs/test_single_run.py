from __future__ import annotations

from pathlib import Path

import pytest

from b2inst.experiments.runs.datasets import prepare
from b2inst.experiments.runs.single_run import describe, full_model, named, single_run
from b2inst.experiments.runs.store import open_run, write_json
from b2inst.experiments.specs.errors import RunError, SpecError
from b2inst.experiments.specs.profile import load_profile
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.table_spec import load_table
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.tables.published import run_table
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


def test_wrong_values_are_named_before_anything_is_written(tmp_path: Path) -> None:
    plan = load_profile("smoke")
    with pytest.raises(SpecError, match="learning_rate"):
        single_run("blendmask-tiny", plan, learning_rate=0)
    with pytest.raises(SpecError, match="name 'my run': use letters, digits"):
        named(single_run("blendmask-tiny", plan), plan, Workspace(tmp_path), "my run")
    assert list(tmp_path.iterdir()) == []


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


def test_a_shorter_run_keeps_the_shape_of_its_schedule() -> None:
    plan = load_profile("tiny")  # 800 iterations, half of them warm-up
    spec = single_run("blendmask-tiny", plan, iterations=200, learning_rate=0.001)
    assert (spec.schedule.iterations, spec.schedule.warmup_iterations) == (200, 100)
    assert spec.schedule.learning_rate == 0.001
    spec = single_run("blendmask-r50", load_profile("coco-1x"), iterations=9000)
    assert spec.schedule.milestones == (6000, 8000)


@pytest.mark.parametrize(
    ("profile", "model", "options", "shorter", "longest"),
    [
        # tiny: 96 in both; coco-1x: 640 to 800, at most 1333, looked at with 800
        ("tiny", "blendmask-tiny", {"shorter": 192, "longer_max": 192}, (192,), 192),
        ("tiny", "b2inst-yolact-tiny", {"size": 192}, (192,), 192),
        ("coco-1x", "blendmask-r50", {"shorter": 400, "longer_max": 666}, (400,), 666),
    ],
)
def test_another_image_size_scales_all_sizes(
    profile: str, model: str, options: dict[str, int], shorter: tuple[int, ...], longest: int
) -> None:
    size = 192 if profile == "tiny" else 400
    spec = single_run(model, load_profile(profile), image_size=size)
    assert options.items() <= spec.options.items()
    assert max(spec.augmentation.shorter) == max(shorter)
    assert spec.augmentation.longer_max == longest


def test_where_images_keep_their_size_crops_have_another() -> None:
    spec = single_run("blendmask-tiny", load_profile("nuclei"), image_size=128)
    assert spec.augmentation.crop == 128
    assert spec.options["shorter"] is None


def _begin(folder: Path, spec: RunSpec) -> None:
    run = open_run(folder, spec)
    run.folder.mkdir(parents=True)
    run.begin(spec)


def test_runs_are_named(tmp_path: Path) -> None:
    workspace, plan = Workspace(tmp_path), load_profile("smoke")
    first = named(single_run("blendmask-tiny", plan), plan, workspace, None)
    assert first.name == "blendmask-tiny-smoke-seed0"
    assert first.hash == single_run("blendmask-tiny", plan).hash
    _begin(workspace.runs, first)
    assert named(single_run("blendmask-tiny", plan), plan, workspace, None) == first
    longer = single_run("blendmask-tiny", plan, iterations=60)
    other = named(longer, plan, workspace, None)
    assert other.name == f"blendmask-tiny-smoke-seed0-{longer.hash[:6]}"
    assert named(longer, plan, workspace, "mine").name == "mine"
    with pytest.raises(RunError, match="seed0: holds a run of other settings"):
        named(longer, plan, workspace, first.name)
    with pytest.raises(ValueError, match="use letters, digits"):
        named(longer, plan, workspace, "../mine")


def test_what_a_table_has_trained_keeps_its_folder(tmp_path: Path) -> None:
    workspace, plan = Workspace(tmp_path), load_profile("smoke")
    spec = single_run("blendmask-tiny", plan)
    _begin(workspace.runs, spec)
    assert named(spec, plan, workspace, None) == spec


def test_a_training_says_what_it_is_about_to_do(tmp_path: Path) -> None:
    workspace, plan = Workspace(tmp_path), load_profile("smoke")
    plan = plan.model_copy(update={"data": prepare(plan.data, workspace.data)})
    spec = named(single_run("blendmask-tiny", plan, iterations=600), plan, workspace, "mine")
    text = describe(spec, plan, workspace)
    assert text.startswith("blendmask-tiny, 8 classes (star, gear, ")
    assert "to runs/mine\n" in text
    assert "600 iterations, batch size 2, adamw, learning rate 0.001" in text
    assert "warning" not in text
    tiny = load_profile("tiny")
    short = single_run("blendmask-tiny", tiny, iterations=79)
    said = describe(short, plan.model_copy(update={"schedule": tiny.schedule}), workspace)
    assert "learning rate 0.006 (warm-up of 40, then cosine to 0); shorter side" in said
    assert "79 iterations, less than a tenth of the profile's 800" in said
    assert "train: 8 images, " in text


def test_runs_are_listed(tmp_path: Path) -> None:
    workspace, plan = Workspace(tmp_path), load_profile("smoke")
    assert run_table(workspace) == "runs: no runs yet"
    spec = named(single_run("yolact-tiny", plan), plan, workspace, "mine")
    spec = spec.model_copy(update={"row": "table3 · YOLACT"})
    _begin(workspace.runs, spec)
    run = open_run(workspace.runs, spec)
    head, line = run_table(workspace).splitlines()
    assert head.split()[:3] == ["run", "row", "model"]
    assert line.startswith("runs/mine  table3 · YOLACT  yolact-tiny  ")
    assert line.endswith("  6           interrupted at 0/6  –")
    run.log_path.write_text('{"iteration": 4, "lr": 0.1}\n')
    assert "  interrupted at 4/6  " in run_table(workspace)
    with run.locked():
        assert "  running  " in run_table(workspace)
    run.model_path.touch()
    assert "  trained  " in run_table(workspace)
    write_json(run.spec_path, {"network": "yolact"})
    assert run_table(workspace).splitlines()[1].split() == [
        *("runs/mine", *"–––––", "of", "another", "version", "–")
    ]
