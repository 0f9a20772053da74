from __future__ import annotations

import math

from reference.comparison import Comparison
from reference.report import report, summary

ROWS = [
    Comparison("p4", (2, 256, 30, 28), 2e-6, 1e-4, "relative"),
    Comparison("num_pos", (), 1, 0, "different"),
    Comparison("p5", (2, 256), math.nan, 0, note="ours is 3×256"),
    Comparison("image_id", (), 0, math.inf, note="a description, not compared"),
]


def test_a_line_each_in_columns() -> None:
    lines = report(ROWS).splitlines()
    assert len(lines) == 5
    assert lines[1].split() == ["p4", "2×256×30×28", "2.0e-06", "0.0001", "relative", "pass"]
    assert lines[2].split() == ["num_pos", "–", "1", "exact", "FAIL"]
    assert lines[3].split()[2:5] == ["?", "exact", "FAIL"]
    assert "pass" not in lines[4]
    assert "FAIL" not in lines[4]
    assert len({line.find("exact") for line in lines[2:4]} | {lines[1].find("0.0001")}) == 1


def test_the_summary_names_what_differs() -> None:
    assert summary("case", ROWS).endswith("2 of 3 values differ: num_pos, p5")
    assert summary("case", ROWS[:1]).endswith("all 1 values agree")
