from __future__ import annotations

from typing import Any

import numpy as np

from b2inst.experiments import TableResult
from b2inst.viz.differences import differences_figure


def _result() -> TableResult:
    delta: dict[str, Any] = {
        "AP": {"mean": 2.0, "ci95": (1.5, 2.5), "band95": (1.0, 3.0), "base": "a"},
        "box_AP": {"mean": 0.5, "ci95": (-1.0, 2.0), "base": "a"},
        "FPS": {"mean": -5.0, "ci95": (-6.0, -4.0), "base": "a"},
    }
    rows: list[dict[str, Any]] = [
        {"name": "a", "paper": {"AP": 28.1}, "status": "run"},
        {"name": "b", "paper": {"AP": 30.1}, "delta": delta, "base": "a", "status": "run"},
        {"name": "c", "paper": {}, "base": "a", "status": "not run"},
    ]
    return TableResult.model_validate(
        {
            "table": "t",
            "profile": "tiny",
            "columns": ["FPS", "AP", "box_AP"],
            "rows": rows,
            "provenance": {},
        }
    )


def test_a_panel_a_pair_and_a_line_a_metric() -> None:
    figure = differences_figure(_result())
    first, second = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["b\nagainst a", "c\nagainst a"]
    assert [label.get_text() for label in first.get_yticklabels()] == ["AP", "box AP"]
    zero, band, mean, paper, noisy, _ = first.lines
    assert list(zero.get_xdata()) == [0, 0]
    assert list(band.get_xdata()) == [1.0, 3.0]  # of images and seeds, not of images alone
    assert list(mean.get_xdata()) == [2.0]
    assert list(noisy.get_xdata()) == [-1.0, 2.0]
    assert noisy.get_color() != band.get_color()
    np.testing.assert_allclose(paper.get_xdata(), [2.0])
    assert len(second.lines) == 1  # neither run nor in the paper


def test_a_table_without_differences_has_an_empty_panel() -> None:
    result = _result()
    figure = differences_figure(result.model_copy(update={"rows": result.rows[:1]}))
    assert len(figure.axes) == 1
