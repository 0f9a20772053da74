from __future__ import annotations

import pytest

from b2inst.experiments import TableResult
from b2inst.experiments.tables.table_result import Difference, ResultRow
from b2inst.viz.report.intervals import difference_scale


def table(deltas: dict[str, tuple[float, tuple[float, float]]]) -> TableResult:
    rows = [ResultRow(name="base", paper={"AP": 35.0}, status="run")]
    for name, (mean, band) in deltas.items():
        delta = Difference(mean=mean, ci95=band, base="base")
        paper: dict[str, float | str] = {"AP": 36.0}
        rows.append(ResultRow(name=name, paper=paper, delta={"AP": delta}, status="run"))
    return TableResult(table="t", profile="p", columns=["AP"], rows=rows, provenance={})


def test_places_are_linear_between_the_outer_ticks() -> None:
    scale = difference_scale(table({"a": (2.0, (-1.0, 4.0)), "b": (3.0, (2.5, 3.5))}), "AP")
    assert scale is not None
    # The span of 5 in ones: from −1 to +4.
    assert scale.ticks == pytest.approx({"−1": 0, "0": 20, "+1": 40, "+2": 60, "+3": 80, "+4": 100})
    a, b = scale.rows
    assert (a.low, a.mean, a.high) == (0, 60, 100)
    assert (b.low, b.mean, b.high) == (70, 80, 90)
    assert a.paper == b.paper == 40  # 36 less 35
    assert [row.inside_noise for row in scale.rows] == [True, False]


@pytest.mark.parametrize("size", [0.03, 1.0, 47.0])
def test_the_scale_holds_everything_and_zero(size: float) -> None:
    scale = difference_scale(table({"a": (2 * size, (size, 3 * size))}), "AP")
    assert scale is not None
    (row,) = scale.rows
    assert "0" in scale.ticks
    assert 3 <= len(scale.ticks) <= 9
    places = [row.low, row.mean, row.high, row.paper]
    assert all(p is not None and 0 <= p <= 100 for p in places)


def test_without_differences_there_is_no_scale() -> None:
    assert difference_scale(table({}), "AP") is None
