from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from b2inst.cli import app
from b2inst.viz import paper
from b2inst.viz.paper import FIGURES, SavedFigure, TrainedModels


def test_what_is_left_out_is_listed_before_anything_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("B2INST_COCO_TINY", raising=False)
    made = tmp_path / "results/local/smoke/figures/figures.json"
    drawn = paper.save_all

    def draw(models: TrainedModels) -> list[SavedFigure]:
        typer.echo("drawing")
        return drawn(models)

    monkeypatch.setattr(paper, "save_all", draw)
    result = CliRunner().invoke(app, ["figures", "--profile", "smoke", "--seeds", "0,1"])
    assert result.exit_code == 1, result.output
    *listed, begun = result.stdout.splitlines()
    assert begun == "drawing"
    names = [name for line in listed for name in line.split(";")[0].split(": ")[1].split(", ")]
    assert sorted(names) == sorted(FIGURES)
    assert listed[0] == (
        "left out: fig1, fig4, fig6, fig9, bases_blendmask; BlendMask is not trained in profile "
        "smoke: run `b2inst table table1 --profile smoke --seeds 0,1`"
    )
    assert result.stderr == (
        "error: no figure can be drawn: BlendMask is not trained in profile smoke: run `b2inst "
        "table table1 --profile smoke --seeds 0,1`\n"
    )
    assert not made.exists()


def test_the_page_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/local/mine").mkdir(parents=True)
    for profile in ("mine", "profiles/mine.yaml"):
        result = CliRunner().invoke(app, ["report", "--profile", profile])
        assert result.exit_code == 0, result.output
        assert result.output == "results/local/mine/index.html: open it in a browser\n"
    page = (tmp_path / "results/local/mine/index.html").read_text(encoding="utf-8")
    assert "<code>b2inst table table1 --profile profiles/mine.yaml</code>" in page


def test_without_results_it_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for profile in ("small", "profiles/small.yaml"):
        result = CliRunner().invoke(app, ["report", "--profile", profile])
        assert result.exit_code == 1
        assert result.stderr.startswith("error: results/local/small: no results yet")
        assert f"`b2inst table table1 --profile {profile}`" in result.stderr
