from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from b2inst.experiments import Resources, RunError, Workspace, load_profile, load_table, run
from b2inst.experiments.runs.datasets import prepare
from b2inst.models import Explanation
from b2inst.structures import Bases, Instances
from b2inst.viz import paper
from b2inst.viz.draw import draw_heat
from b2inst.viz.paper import (
    FIGURES,
    TrainedModel,
    TrainedModels,
    draw,
    missing_models,
    save,
    save_all,
)

DRAWN = {"fig1", "fig4", "fig6", "fig8", "fig9", "bases_blendmask"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TrainedModels:
    """BlendMask and B2Inst of Table 1, really run in the smoke profile; nothing of Table 3."""
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("B2INST_COCO_TINY", raising=False)
        plan = load_profile("smoke", workspace=workspace)
    schedule = plan.schedule.model_copy(update={"iterations": 2})
    data = prepare(plan.data, workspace.data)
    plan = plan.model_copy(update={"data": data, "schedule": schedule})
    rows = load_table("table1", workspace=workspace).rows
    for row in (rows[0], rows[-1]):
        assert row.model is not None
        spec = plan.run_spec(row.model, row.options, seed=0)
        run(spec, workspace, machine=Resources(threads=1, device="cpu"), progress=False)
    return TrainedModels(plan, workspace, seeds=(0, 1))


@pytest.fixture
def gains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of two iterations find nothing, so gains are made up: image 3 gains, 5 loses most."""
    made = {1: 0.0, 2: 0.04, 3: 0.3, 4: -0.01, 5: -0.2, 6: 0.01, 7: 0.02, 8: 0.03}
    monkeypatch.setattr(paper, "image_gains", lambda *_: made)


def test_each_figure_is_drawn_or_says_what_to_run(models: TrainedModels) -> None:
    saved = dict(zip(FIGURES, save_all(models), strict=True))
    folder = models.workspace.results / "smoke/figures"
    for name, one in saved.items():
        if name not in DRAWN:
            assert one.path is None
            assert "b2inst table table3 --profile smoke" in one.record["missing"]
            assert "Not drawn" in one._repr_mimebundle_()["text/markdown"]
            continue
        assert one.path == folder / f"{name}.png"
        assert one.path.stat().st_size <= 2**20
        with Image.open(one.path) as image:
            assert image.width > 1000
        pdf = one.path.with_suffix(".pdf").read_bytes()
        assert b"/FontFile2" in pdf, "fonts are embedded, as TrueType"
        assert b"/Type3" not in pdf
        assert str(models.workspace.root).encode() not in pdf
    records = json.loads((folder / "figures.json").read_text())["figures"]
    by_name = {record["name"]: record for record in records}
    assert list(by_name) == list(FIGURES)
    runs = {p.name for p in models.workspace.runs.iterdir()}
    assert {m for of in by_name["fig4"]["models"] for m in of["runs"]} == runs
    assert by_name["fig5"].keys() == {"name", "missing"}


@pytest.mark.usefixtures("gains")
def test_gains_and_losses_stand_beside_their_number(models: TrainedModels) -> None:
    figure, record = draw("fig1", models)
    assert record["chosen"] == [
        {"id": 3, "reason": "largest gain", "gain": 0.3},
        {"id": 5, "reason": "largest loss", "gain": -0.2},
    ]
    labels = [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]
    assert labels == ["image 3\nlargest gain\ngain +0.30", "image 5\nlargest loss\ngain -0.20"]
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["BlendMask", "B2Inst-BlendMask", "boundary of\nB2Inst-BlendMask"]
    figure, record = draw("fig4", models)
    reasons = [choice["reason"] for choice in record["chosen"]]
    assert reasons == ["largest gain", "largest gain", "largest loss", "random, seed 0"]
    assert "Images: 2 of largest gain, 1 of largest loss, 1 at random." in record["caption"]
    assert " ".join(figure.get_supxlabel().split()) == record["caption"]


def test_without_objects_that_both_find_there_are_no_closeups(models: TrainedModels) -> None:
    assert draw("fig9", models)[1]["chosen"] == []


def test_a_figure_names_the_models_that_it_takes(
    models: TrainedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn with these alone, and of these not one too many."""
    find = TrainedModels.__getitem__
    for name in DRAWN:
        asked = set()

        def noted(own: Any, family: str, asked: set[str] = asked) -> TrainedModel:
            found = find(own, family)
            asked.add(family)
            return found

        monkeypatch.setattr(TrainedModels, "__getitem__", noted)
        draw(name, models)
        monkeypatch.setattr(TrainedModels, "__getitem__", find)
        assert asked == set(FIGURES[name].families)


def test_without_any_run_every_figure_says_what_to_run(
    models: TrainedModels, tmp_path: Path
) -> None:
    shutil.copytree(models.workspace.data, tmp_path / "data")
    empty = TrainedModels(models.plan, Workspace(tmp_path), seeds=(1,), profile="my/own.yaml")
    for name in FIGURES:
        missing = save(name, empty).record["missing"]
        assert re.search(r"run `b2inst table table[13] --profile my/own.yaml --seeds 1`", missing)
    assert sorted(name for names in missing_models(empty).values() for name in names) == sorted(
        FIGURES
    )
    with pytest.raises(RunError, match=r"no figure can be drawn: BlendMask is not .* --seeds 1`"):
        save_all(empty)
    assert not (tmp_path / "results").exists()
    with pytest.raises(RunError, match="BlendMask is not trained in profile smoke"):
        empty["blendmask"]


def test_scenes_are_not_drawn_for_models_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("B2INST_COCO_TINY", raising=False)
    empty = TrainedModels.load("smoke", workspace=Workspace(tmp_path))
    assert missing_models(empty)
    assert not (tmp_path / "data").exists()
    assert len(empty.index) > 0  # where a model is there
    assert (tmp_path / "data").is_dir()


def test_the_first_seed_that_was_run_is_shown(models: TrainedModels) -> None:
    later = TrainedModels(models.plan, models.workspace, seeds=(1, 0))
    model = later["b2inst-blendmask"]
    assert model.run.folder == models["b2inst-blendmask"].run.folder
    assert model.row == "table1, HBB+BS+MS"
    assert model.model.class_names is not None


@pytest.mark.usefixtures("gains")
def test_all_bases_stand_beside_the_boundary_basis(models: TrainedModels) -> None:
    figure, record = draw("bases_blendmask", models)
    assert [c["reason"] for c in record["chosen"]] == ["largest gain", "random, seed 0"]
    pictures = [[axis.images[0].get_array() for axis in row] for row in _rows(figure)]
    assert [len(row) for row in pictures] == [6, 6, 6, 6], "image, boundary, four bases"
    baseline, b2inst = pictures[:2]
    assert (baseline[1] == 255).all(), "it has no boundary"
    explanation = models["b2inst-blendmask"].model.explain(_image(models, 3))
    assert explanation.boundary is not None
    assert (b2inst[1] == draw_heat(explanation.boundary, b2inst[1].shape[:2])).all()


def _rows(figure: Figure) -> list[list[Any]]:
    axes = figure.axes
    width = axes[0].get_gridspec().ncols
    return [axes[i : i + width] for i in range(0, len(axes), width)]


def _image(models: TrainedModels, image_id: int) -> Any:
    path = next(record.path for record in models.index.images if record.id == image_id)
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("joined", [True, False])
def test_bases_fill_several_rows_and_are_red_above_zero(joined: bool) -> None:
    maps = torch.zeros(1, 11, 8, 8)
    maps[0, 0, :4], maps[0, 0, 4:] = 2.0, -1.0
    logits = torch.full((1, 1, 8, 8), 9.0)
    if joined:
        maps = torch.cat([maps, logits], dim=1)
    nothing = torch.zeros(0)
    masks = torch.zeros(0, 16, 16, dtype=torch.bool)
    nobody = Instances(torch.zeros(0, 4), nothing, nothing, nothing.long(), masks)
    detections: Any = None
    image = np.full((16, 16, 3), 7, dtype=np.uint8)
    explanation = Explanation(image, nobody, detections, Bases(maps, 2, logits), content=(8, 8))
    first, second = paper._basis_rows(explanation, side=16)
    assert len(first) == len(second) == 10
    assert (second[5] == 255).all(), "there are eleven"
    assert (first[0] == 7).all()
    assert (second[0] == 255).all()
    above, below = first[2][0, 0], first[2][-1, 0]
    assert above[0] > above[2]
    assert below[2] > below[0]
    assert first[3].min() > 235, "zero is nearly white"
