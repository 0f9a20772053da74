"""Comparisons as text: a line each, aligned, and a summary."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reference.comparison import Comparison, shape_text


def report(comparisons: Sequence[Comparison]) -> str:
    """Name, shape, error, tolerance, verdict and note of each."""
    rows = [(c.name, shape_text(c.shape), *_numbers(c), _verdict(c), c.note) for c in comparisons]
    header = ("name", "shape", "error", "tolerance", "", "")
    widths = [max(len(row[k]) for row in (header, *rows)) for k in range(5)]
    lines = []
    for row in (header, *rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        lines.append("  ".join((*cells, row[5])).rstrip())
    return "\n".join(lines)


def summary(name: str, comparisons: Sequence[Comparison]) -> str:
    """How many passed, or which did not."""
    compared = [c for c in comparisons if math.isfinite(c.tolerance)]
    bad = [c.name for c in compared if not c.passed]
    if bad:
        return f"{name}: {len(bad)} of {len(compared)} values differ: {', '.join(bad)}"
    return f"{name}: all {len(compared)} values agree"


def _verdict(comparison: Comparison) -> str:
    if math.isinf(comparison.tolerance):
        return "-"
    return "pass" if comparison.passed else "FAIL"


def _numbers(comparison: Comparison) -> tuple[str, str]:
    if math.isinf(comparison.tolerance):
        return "", ""
    error = "?" if math.isnan(comparison.error) else f"{comparison.error:.1e}"
    if comparison.tolerance == 0:
        return error if error == "?" else f"{comparison.error:g}", "exact"
    return error, f"{comparison.tolerance:g} {comparison.unit}".rstrip()
