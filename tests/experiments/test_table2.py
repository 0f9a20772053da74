"""The paper's Table 2, typed again from its text, against ``experiments/table2.yaml``."""

from __future__ import annotations

import pytest

from b2inst.experiments.specs.profile import load_profile
from b2inst.experiments.specs.table_spec import load_table

# Design   AP AP50 AP75 APs APm APl, as printed
PRINTED = """
Baseline 35.8 56.4 38.1 16.9 38.8 51.1
(a) 35.7 56.2 38.0 17.3 38.6 50.9
(b) 36.0 56.4 38.4 16.4 39.0 51.8
(c) 36.0 56.5 38.5 16.5 39.0 51.6
(d) 36.0 56.2 38.4 16.7 38.7 51.5
(e) 36.2 56.5 38.5 17.6 39.3 51.3
"""
PROFILES = ["smoke", "tiny", "small", "coco-1x", "coco-3x"]


def test_cells_are_the_papers() -> None:
    table = load_table("table2")
    lines = [line.split() for line in PRINTED.strip().splitlines()]
    for row, (design, *cells) in zip(table.rows, lines, strict=True):
        assert row.name.split()[0].lower() == design.lower()
        names = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
        assert row.paper == dict(zip(names, map(float, cells), strict=True))
        assert row.source == f"Table 2, row {design if design != 'Baseline' else '1'}"


def test_names_say_what_fig_3_says_of_the_designs() -> None:
    table = load_table("table2")
    assert table.base == "baseline"
    said = {row.name[:3]: row.name for row in table.rows[1:]}
    for design, words in {
        "(a)": ("local", "single", "loss"),
        "(b)": ("global", "fusion", "loss"),
        "(c)": ("global", "fusion", "loss + basis"),
        "(d)": ("global", "single", "loss"),
        "(e)": ("global", "single", "loss + basis"),
    }.items():
        parts = said[design].removeprefix(f"{design} ").split(", ")
        assert [part.removesuffix(" scale") for part in parts] == list(words)


def test_no_design_has_scoring() -> None:
    rows = load_table("table2").rows
    assert [row.model for row in rows] == ["blendmask"] + 5 * ["b2inst-blendmask"]
    assert all(row.options["scoring"] == [] for row in rows[1:])


@pytest.mark.parametrize("profile", PROFILES)
def test_rows_that_table_1_has_are_the_same_runs(profile: str) -> None:
    plan = load_profile(profile)
    one, two = (load_table(name).run_specs(plan, (0, 1)) for name in ("table1", "table2"))
    shared = {"baseline": "baseline", "HBB": "(e) global, single scale, loss + basis"}
    for first, second in shared.items():
        assert [spec.hash for spec in one[first]] == [spec.hash for spec in two[second]]
    assert len({spec.hash for row in two.values() for spec in row}) == 12
    both = {spec.hash for of in (one, two) for row in of.values() for spec in row}
    assert len(both) == 10 + 12 - 4
