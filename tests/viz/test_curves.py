from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from b2inst.viz.curves import loss_names, read_log, training_curves
from b2inst.viz.figure import save_figure


def write_log(path: Path, lines: list[dict]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return write_log(
        tmp_path / "log.jsonl",
        [
            {"iteration": i, "mask": 1 / i, "total": 2 / i, "lr": 0.01, "seconds": 0.1 * i}
            for i in range(1, 31)
        ],
    )


def test_log_is_indexed_by_iteration(log: Path) -> None:
    frame = read_log(log)
    assert frame.index.tolist() == list(range(1, 31))
    assert frame.loc[4, "mask"] == 0.25


def test_nested_losses_read_as_flat_ones(tmp_path: Path) -> None:
    path = write_log(tmp_path / "log.jsonl", [{"iteration": 1, "losses": {"mask": 3.0}}])
    assert read_log(path).loc[1, "mask"] == 3.0


def test_the_resumed_line_counts(tmp_path: Path) -> None:
    lines = [{"iteration": i, "mask": float(i)} for i in (1, 2, 3)]
    path = write_log(tmp_path / "log.jsonl", [*lines, {"iteration": 2, "mask": 20.0}])
    frame = read_log(path)
    assert frame["mask"].to_dict() == {1: 1.0, 2: 20.0, 3: 3.0}


def test_a_log_without_iterations_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"log\.jsonl"):
        read_log(write_log(tmp_path / "log.jsonl", [{"mask": 1.0}]))


def test_losses_are_named_total_first(log: Path) -> None:
    assert loss_names([read_log(log)]) == ["total", "mask"]


def test_a_panel_a_loss_and_a_line_a_seed(log: Path, tmp_path: Path) -> None:
    more = write_log(
        tmp_path / "more.jsonl",
        [{"iteration": i, "mask": 1.0, "boundary": 2.0, "total": 3.0} for i in range(5)],
    )
    figure = training_curves({"baseline": [log, log], "HBB": [more]}, smoothing=0)
    panels = {axis.get_title(): axis for axis in figure.axes if axis.axison}
    assert list(panels) == ["total", "mask", "boundary"]
    assert len(panels["mask"].lines) == 3
    assert len(panels["boundary"].lines) == 1
    np.testing.assert_allclose(panels["mask"].lines[0].get_ydata(), 1 / np.arange(1, 31))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["baseline", "HBB"]


def test_figures_are_saved_small_and_the_same_twice(log: Path, tmp_path: Path) -> None:
    first, second = (
        save_figure(training_curves({"baseline": [log]}), tmp_path / name / "curves.png")
        for name in ("a", "b")
    )
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as image:
        assert image.mode == "P"
        assert image.width > 300
