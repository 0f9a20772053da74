from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from b2inst import save_model
from b2inst.data import DataError
from b2inst.experiments import RunError, Workspace, load_profile, load_table, open_run
from b2inst.models import create_model
from b2inst.viz.explore.sources import baseline, fullest, own_image, trained_models, weights_file
from b2inst.weights.errors import WeightsError


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Runs of Table 1's baseline (seeds 0 and 1), HBB and full row (seed 1), untrained."""
    monkeypatch.delenv("B2INST_COCO_TINY", raising=False)
    place = Workspace(tmp_path)
    specs = load_table("table1").run_specs(load_profile("smoke"), (0, 1))
    for row, seeds in {"baseline": (0, 1), "HBB": (1,), "HBB+BS+MS": (1,)}.items():
        for seed in seeds:
            spec = specs[row][seed]
            run = open_run(place.runs, spec)
            run.folder.mkdir(parents=True)
            save_model(create_model(spec.model, num_classes=8, **spec.options), run.model_path)
    return place


def test_what_has_been_trained_is_listed_by_row_and_seed(workspace: Workspace) -> None:
    found = trained_models("smoke", [0, 1], workspace=workspace)
    assert [(m.label, m.parts) for m in found] == [
        ("table1 · baseline · seed 0", 0),
        ("table1 · baseline · seed 1", 0),
        ("table1 · HBB · seed 1", 1),
        ("table1 · HBB+BS+MS · seed 1", 3),
    ]
    assert fullest(found).short == "HBB+BS+MS"
    assert baseline(found, fullest(found)).label == "table1 · baseline · seed 1"
    assert baseline(found[2:], fullest(found)) is fullest(found)  # there is none
    (only,) = trained_models("smoke", [0], workspace=workspace)
    assert only.label == "table1 · baseline · seed 0"


def test_other_models_come_first_and_suffice(workspace: Workspace, tmp_path: Path) -> None:
    own = weights_file(next(workspace.runs.glob("*/model.safetensors")))
    found = trained_models("smoke", [0, 1], besides=[own], workspace=workspace)
    assert (found[0], len(found)) == (own, 5)
    assert trained_models("smoke", [7], besides=[own], workspace=workspace) == [own]
    with pytest.raises(RunError, match="B2INST_WEIGHTS"):
        trained_models("smoke", [7], workspace=workspace)


def test_models_without_bases_are_not_listed(workspace: Workspace) -> None:
    (spec,) = load_table("table4").run_specs(load_profile("smoke"), (0,))["MS R-CNN R-50"]
    run = open_run(workspace.runs, spec)
    run.folder.mkdir(parents=True)
    save_model(create_model(spec.model, num_classes=8, **spec.options), run.model_path)
    found = trained_models("smoke", [0, 1], workspace=workspace)
    assert run.model_path not in {model.path for model in found}
    assert len(found) == 4


def test_models_that_are_shown_the_boundary_are_not_listed(workspace: Workspace) -> None:
    specs = load_table("beyond").run_specs(load_profile("smoke"), (0,))
    rows = ("gate", "isotropic", "gate, true boundary", "true boundary as basis")
    for (spec,) in (specs[row] for row in rows):
        run = open_run(workspace.runs, spec)
        run.folder.mkdir(parents=True)
        save_model(create_model(spec.model, num_classes=8, **spec.options), run.model_path)
    found = trained_models("smoke", [0, 1], workspace=workspace)
    added = {m.label: m.parts for m in found if m.label.startswith("beyond")}
    assert added == {"beyond · isotropic · seed 0": 2, "beyond · gate · seed 0": 3}
    assert len(found) == 6
    assert {m.short for m in found if m.refined} == {"isotropic", "gate"}
    assert fullest(found).short == "HBB+BS+MS"  # of equal ones the paper's
    gate = next(m for m in found if m.short == "gate")
    assert baseline(found, gate).label == "table1 · baseline · seed 0"


def test_nothing_trained_says_what_to_do(workspace: Workspace) -> None:
    with pytest.raises(RunError, match="b2inst table table1 --profile smoke"):
        trained_models("smoke", [7], workspace=workspace)


def test_any_weights_file(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_model(create_model("b2inst-yolact-tiny", num_classes=2, size=64), path)
    found = weights_file(path)
    assert (found.short, found.parts) == ("mine", 3)
    with pytest.raises(WeightsError, match="no such weights file"):
        weights_file(tmp_path / "none.safetensors")


def test_own_images(tmp_path: Path) -> None:
    Image.new("L", (20, 10), 77).save(tmp_path / "grey.png")
    sample = own_image(tmp_path / "grey.png")
    assert sample.name == "grey.png"
    assert sample.image.shape == (10, 20, 3)
    assert (sample.image == 77).all()
    assert len(sample.truth) == 0
    (tmp_path / "bad.png").write_bytes(b"{}")
    with pytest.raises(DataError, match=r"bad\.png"):
        own_image(tmp_path / "bad.png")
