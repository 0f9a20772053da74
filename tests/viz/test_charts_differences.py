from __future__ import annotations

from typing import Any

import numpy as np

from b2inst.experiments import TableResult
from b2inst.viz.charts import contrasts_figure, differences_figure


def _result() -> TableResult:
    delta: dict[str, Any] = {
        "AP": {"mean": 2.0, "ci95": (1.5, 2.5), "band95": (1.0, 3.0), "base": "a"},
        "box_AP": {"mean": 0.5, "band95": (-1.0, 2.0), "base": "a", "inside_noise": True},
        "FPS": {"mean": -5.0, "band95": (-6.0, -4.0), "base": "a"},
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
    zero, band, mean, paper, noisy, noisy_mean = first.lines
    assert list(zero.get_xdata()) == [0, 0]
    assert list(band.get_xdata()) == [1.0, 3.0]  # of images and seeds, not of images alone
    assert list(mean.get_xdata()) == [2.0]
    assert list(noisy.get_xdata()) == [-1.0, 2.0]
    assert noisy_mean.get_markerfacecolor() == "white"  # zero is in its interval
    assert mean.get_markerfacecolor() == mean.get_color()
    np.testing.assert_allclose(paper.get_xdata(), [2.0])
    assert len(second.lines) == 1  # neither run nor in the paper


def test_a_table_without_differences_has_an_empty_panel() -> None:
    result = _result()
    figure = differences_figure(result.model_copy(update={"rows": result.rows[:1]}))
    assert len(figure.axes) == 1


def test_contrasts_have_a_line_per_question() -> None:
    result = _result()
    contrasts: list[dict[str, Any]] = [
        {"asks": "Does b help?", "row": "b", "base": "a"},
        {"asks": "Does c help?", "row": "c", "base": "a"},  # not run
    ]
    by_class = {"class_AP": result.rows[1].delta["box_AP"].model_dump()}
    contrasts[0]["delta"] = {"AP": result.rows[1].delta["AP"].model_dump(), **by_class}
    content = result.model_dump() | {"contrasts": contrasts, "columns": ["AP", "class_AP"]}
    (axis,) = contrasts_figure(TableResult.model_validate(content)).axes  # no boundary AP
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == ["Does b help?\nb − a", "Does c help?\nc − a"]
    zero, band, mean, class_band, class_mean = axis.lines
    assert list(zero.get_xdata()) == [0, 0]
    assert list(band.get_xdata()) == [1.0, 3.0]
    assert list(mean.get_xdata()) == [2.0]
    assert list(class_band.get_xdata()) == [-1.0, 2.0]
    assert mean.get_markerfacecolor() == mean.get_color()
    assert class_mean.get_markerfacecolor() == "white"
