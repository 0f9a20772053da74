"""Differences with their intervals on one scale, ours beside the paper's."""

from __future__ import annotations

import math
from dataclasses import dataclass

from b2inst.experiments.tables.table_result import ResultRow, TableResult


@dataclass(frozen=True)
class Interval:
    """A row's difference; places are in percent of the scale's length."""

    name: str
    mean: float | None
    low: float | None
    high: float | None
    paper: float | None
    inside_noise: bool


@dataclass(frozen=True)
class Scale:
    """The rows of a table that have a difference in a column."""

    column: str
    rows: list[Interval]
    ticks: dict[str, float]  #: label → place


def difference_scale(result: TableResult, column: str) -> Scale | None:
    """Place the differences of a column on a scale that holds them, their bands and zero.

    Returns:
        None where no row has such a difference.
    """
    rows = [row for row in result.rows if row.delta.get(column) and _mean(row, column) is not None]
    if not rows:
        return None
    values = [0.0]
    for row in rows:
        delta = row.delta[column]
        values += [v for v in (delta.mean, *(delta.band95 or ()), _paper(result, row, column)) if v]
    step = _step(max(values) - min(values))
    low, high = math.floor(min(values) / step) * step, math.ceil(max(values) / step) * step
    high = max(high, low + step)

    def place(value: float | None) -> float | None:
        return None if value is None else round(100 * (value - low) / (high - low), 2)

    intervals = []
    for row in rows:
        delta = row.delta[column]
        band = delta.band95 or (None, None)
        intervals.append(
            Interval(
                name=row.name,
                mean=place(delta.mean),
                low=place(band[0]),
                high=place(band[1]),
                paper=place(_paper(result, row, column)),
                inside_noise=bool(delta.inside_noise),
            )
        )
    count = round((high - low) / step)
    ticks = {_signed(low + i * step): 100 * i / count for i in range(count + 1)}
    return Scale(column, intervals, ticks)


def _mean(row: ResultRow, column: str) -> float | None:
    return row.delta[column].mean


def _paper(result: TableResult, row: ResultRow, column: str) -> float | None:
    """The paper's difference to the same base row."""
    here = row.paper.get(column)
    there = result.row(row.delta[column].base).paper.get(column)
    if isinstance(here, (int, float)) and isinstance(there, (int, float)):
        return here - there
    return None


def _step(span: float) -> float:
    """Of 1, 2, 5, 10, 20 …: the one that parts a span in three to seven."""
    if span <= 0:
        return 1.0
    magnitude = 10 ** math.floor(math.log10(span / 3))
    return next(magnitude * m for m in (1, 2, 5, 10) if span / (magnitude * m) <= 7)


def _signed(value: float) -> str:
    return "0" if abs(value) < 1e-9 else f"{value:+g}".replace("-", "−")
