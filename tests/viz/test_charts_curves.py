from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from b2inst.viz import charts
from b2inst.viz.charts import training_curves
from b2inst.viz.figure import save_figure


@pytest.fixture
def log() -> list[dict[str, float]]:
    return [
        {"iteration": i, "lr": 0.01, "seconds": 0.1 * i, "total": 2 / i, "mask": 1 / i}
        for i in range(1, 31)
    ]


def test_a_panel_a_loss_and_a_line_a_seed(log: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "_SMOOTHING", 0)
    more = [{"iteration": i, "total": 3.0, "mask": 1.0, "boundary": 2.0} for i in range(5)]
    figure = training_curves({"baseline": [log, log], "HBB": [more]})
    panels = {axis.get_title(): axis for axis in figure.axes}
    assert list(panels) == ["mask", "boundary"]
    colours = [line.get_color() for line in panels["mask"].lines]
    assert colours[0] == colours[1] != colours[2]
    drawn = [line for line in panels["boundary"].lines if len(line.get_xdata())]
    assert len(drawn) == 1
    np.testing.assert_allclose(panels["mask"].lines[0].get_ydata(), 1 / np.arange(1, 31))
    assert all(axis.get_ylim()[0] == 0 for axis in panels.values())
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["baseline", "HBB"]


def test_flat_curves_stay_below_the_top() -> None:
    flat = [{"iteration": i, "mask": 0.7 - 0.001 * i, "none": 0.0} for i in range(6)]
    mask, none = training_curves({"baseline": [flat]}).axes
    assert mask.get_ylim() == pytest.approx((0, 1.05 * 0.7))
    assert none.get_ylim()[1] > 0


def test_smoothing_calms_the_curve_around_the_same_level() -> None:
    rng = np.random.default_rng(0)
    noisy = [{"iteration": i, "mask": 1 + rng.normal()} for i in range(400)]
    figure = training_curves({"baseline": [noisy]})
    curve = np.asarray(figure.axes[0].lines[0].get_ydata())[100:]
    assert curve.std() < 0.4
    assert abs(curve.mean() - 1) < 0.3


def test_metrics_of_early_looks_are_drawn_as_they_are(log: list) -> None:
    log[9] |= {"AP": 2.0, "boundary_AP": 1.0}
    log[29] |= {"AP": 9.0, "boundary_AP": 8.0}
    figure = training_curves({"baseline": [log]})
    panels = {axis.get_title(): axis for axis in figure.axes}
    (line,) = panels["AP (%)"].lines
    assert list(zip(*line.get_data(), strict=True)) == [(10, 2), (30, 9)]
    assert line.get_marker() == "."  # a single look is seen, too


def test_nothing_logged_yet_gives_an_empty_figure() -> None:
    assert len(training_curves({"baseline": [[]]}).axes) == 1


def test_figures_are_saved_small_and_the_same_twice(log: list, tmp_path: Path) -> None:
    first, second = (
        save_figure(training_curves({"baseline": [log]}), tmp_path / name / "curves.png")
        for name in ("a", "b")
    )
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as image:
        assert image.mode == "P"
        assert image.width > 300
