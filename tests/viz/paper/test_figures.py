from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from b2inst.experiments import RunError, Workspace
from b2inst.viz.choose import Choice
from b2inst.viz.paper import FIGURES, Material, left_out, make_figures, save
from b2inst.viz.paper.figures import fig1, fig4, fig9
from b2inst.viz.paper.material import TrainedModel

DRAWN = {"fig1", "fig4", "fig6", "fig8", "fig9", "bases_blendmask", "errors_blendmask"}


@pytest.fixture(scope="module")
def gains() -> dict[int, float]:
    """Models of two iterations find nothing, so gains are made up: image 3 gains, 5 loses most."""
    return {1: 0.0, 2: 4.0, 3: 30.0, 4: -1.0, 5: -20.0, 6: 1.0, 7: 2.0, 8: 3.0}


def test_each_figure_is_drawn_or_says_what_to_run(material: Material) -> None:
    saved = {one.name: one for one in make_figures(material)}
    assert set(saved) == set(FIGURES)
    folder = material.workspace.results / "smoke/figures"
    for name, one in saved.items():
        if name not in DRAWN:
            assert one.path is None
            assert "make table3 PROFILE=smoke" in one.caption
            assert "Not drawn" in one._repr_mimebundle_()["text/markdown"]
            continue
        assert one.path == folder / f"{name}.png"
        assert one.path.stat().st_size <= 2**20
        with Image.open(one.path) as image:
            assert image.width > 1000
        pdf = one.path.with_suffix(".pdf").read_bytes()
        assert b"/FontFile2" in pdf, "fonts are embedded, as TrueType"
        assert b"/Type3" not in pdf
        assert str(material.workspace.root).encode() not in pdf
    records = json.loads((folder / "figures.json").read_text())["figures"]
    by_name = {record["name"]: record for record in records}
    assert list(by_name) == list(FIGURES)
    runs = {p.name for p in material.workspace.runs.iterdir()}
    assert {m for of in by_name["fig4"]["models"] for m in of["runs"]} == runs
    assert by_name["fig5"].keys() == {"name", "missing"}


def test_gains_and_losses_stand_beside_their_number(
    material: Material, gains: dict[int, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(material, "gains", lambda *_: gains)
    drawing = fig1(material)
    assert drawing.choices == [Choice(3, "largest gain", 30.0), Choice(5, "largest loss", -20.0)]
    labels = [axis.get_ylabel() for axis in drawing.figure.axes if axis.get_ylabel()]
    assert labels == ["image 3\nlargest gain\n+30.0", "image 5\nlargest loss\n-20.0"]
    titles = [axis.get_title() for axis in drawing.figure.axes if axis.get_title()]
    assert titles == ["BlendMask", "B2Inst", "boundary basis"]
    reasons = [choice.reason for choice in fig4(material).choices]
    assert reasons == ["largest gain", "largest gain", "largest loss", "drawn by seed 0"]


def test_the_rule_is_written_below(material: Material) -> None:
    drawing = fig4(material)
    text = drawing.figure.get_supxlabel()
    assert " ".join(text.split()) == drawing.caption
    assert re.search("of largest gain, one of largest loss, one at random", drawing.caption)


def test_without_objects_that_both_find_there_are_no_closeups(material: Material) -> None:
    assert fig9(material).choices == []


def test_a_figure_names_the_models_that_it_takes(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Drawn with these alone, and of these not one too many."""
    for name in DRAWN:
        asked = set()
        model = material.model

        def noted(family: str, model: Any = model, asked: set[str] = asked) -> TrainedModel:
            found: TrainedModel = model(family)
            asked.add(family)
            return found

        monkeypatch.setattr(material, "model", noted)
        FIGURES[name].draw(material)
        monkeypatch.setattr(material, "model", model)
        assert asked == set(FIGURES[name].families)


def test_models_of_given_data_are_trained_on_the_same(material: Material) -> None:
    given = Material(
        material.plan, material.workspace, seeds=(1,), profile="my/own.yaml", own_data=True
    )
    (text,) = {why for why, names in left_out(given).items() if "fig7" in names}
    assert text.endswith("run `make table3 PROFILE=my/own.yaml SEEDS=1` with the same data")


def test_without_any_run_every_figure_says_what_to_run(material: Material, tmp_path: Path) -> None:
    shutil.copytree(material.workspace.data, tmp_path / "data")
    empty = Material(material.plan, Workspace(tmp_path), seeds=(0,))
    for name in FIGURES:
        assert re.search(r"run `make table[13] PROFILE=smoke`", save(name, empty).caption)
    assert not (tmp_path / "results").exists()
    with pytest.raises(RunError, match="BlendMask is not trained in profile smoke"):
        empty.model("blendmask")


def test_a_seed_that_was_not_run_is_left_out(material: Material) -> None:
    model = material.model("b2inst-blendmask")
    assert list(model.runs) == [0]
    assert model.row == "table1, HBB+BS+MS"
    assert model.model.class_names is not None
