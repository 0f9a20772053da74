from __future__ import annotations

import numpy as np

from b2inst.experiments.tables.score_quality import RowQuality, calibration
from b2inst.viz.charts import calibration_figure
from b2inst.viz.figure import ROW_COLOURS


def row(name: str, *qualities: str) -> RowQuality:
    predicted = np.repeat([0.25, 0.55, 0.95], [5, 20, 75])
    return RowQuality(
        name=name,
        runs=["a"],
        of_object=100,
        calibration={q: calibration(predicted, predicted / 2) for q in qualities},
        calibration_error={},
        correlation={},
        ap={},
        reached={},
    )


def test_a_line_a_row_through_the_bins_that_have_enough() -> None:
    rows = [row("HBB+BS", "boundary"), row("HBB+BS+MS", "iou", "boundary")]
    figure = calibration_figure(rows, ["baseline", "HBB+BS", "HBB+BS+MS"])
    iou, boundary = figure.axes
    colours = [[line.get_color() for line in axis.lines[1:]] for axis in (iou, boundary)]
    assert colours == [[ROW_COLOURS[2]], [ROW_COLOURS[1], ROW_COLOURS[2]]]
    diagonal, curve = iou.lines
    np.testing.assert_allclose(diagonal.get_xydata(), [[0, 0], [1, 1]])
    np.testing.assert_allclose(curve.get_xydata(), [[0.55, 0.275], [0.95, 0.475]])
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["HBB+BS", "HBB+BS+MS"]


def test_nothing_rated_gives_empty_panels() -> None:
    figure = calibration_figure([], [])
    assert [len(axis.lines) for axis in figure.axes] == [1, 1]
    assert not figure.legends
