from __future__ import annotations

from typing import Any

from b2inst.experiments import TableResult
from b2inst.viz.contrasts import contrasts_figure


def _result() -> TableResult:
    delta: dict[str, Any] = {
        "AP": {"mean": 2.0, "ci95": (1.5, 2.5), "band95": (1.0, 3.0), "base": "a"},
        "class_AP": {"mean": 0.5, "ci95": (-1.0, 2.0), "base": "a"},
    }
    return TableResult.model_validate(
        {
            "table": "t",
            "profile": "tiny",
            "columns": ["AP", "class_AP", "box_AP"],
            "rows": [{"name": n, "paper": {}, "status": "run"} for n in "abc"],
            "contrasts": [
                {"asks": "Does b help?", "row": "b", "base": "a", "delta": delta},
                {"asks": "Does c help?", "row": "c", "base": "a"},  # not run
            ],
            "provenance": {},
        }
    )


def test_each_question_has_its_differences_with_their_bands() -> None:
    (axis,) = contrasts_figure(_result()).axes  # of AP alone: boundary AP is no column
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels == ["Does b help?\nb − a", "Does c help?\nc − a"]
    zero, band, mean, class_band, class_mean = axis.lines
    assert list(zero.get_xdata()) == [0, 0]
    assert list(band.get_xdata()) == [1.0, 3.0]
    assert list(mean.get_xdata()) == [2.0]
    assert list(class_band.get_xdata()) == [-1.0, 2.0]
    assert mean.get_markerfacecolor() == mean.get_color()
    assert class_mean.get_markerfacecolor() == "white"  # zero is in its band
