"""The paper's Table 1, typed again from its text, against ``experiments/table1.yaml``."""

from __future__ import annotations

import pytest

from b2inst.experiments.specs.profile import load_profile
from b2inst.experiments.specs.table_spec import load_table

# HBB BS MS   AP AP50 AP75 APs APm APl, as printed
PRINTED = """
             35.8 56.4 38.1 16.9 38.8 51.1
X            36.2 56.5 38.5 17.6 39.3 51.3
X X          36.3 55.3 39.4 16.8 39.3 52.3
X X          36.6 55.5 39.6 17.3 39.7 51.9
X X X        36.8 55.7 39.9 17.2 39.9 52.5
"""
#: Row → its marks; the two rows of two marks are read in the order of the columns.
ROWS = {"baseline": 0, "HBB": 1, "HBB+BS": 2, "HBB+MS": 2, "HBB+BS+MS": 3}


def test_cells_are_the_papers() -> None:
    table = load_table("table1")
    lines = [line.split() for line in PRINTED.strip("\n").splitlines()]
    assert [row.name for row in table.rows] == list(ROWS)
    for row, line, marks in zip(table.rows, lines, ROWS.values(), strict=True):
        assert line.count("X") == marks
        printed = [float(word) for word in line if word != "X"]
        names = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
        assert row.paper == dict(zip(names, printed, strict=True))
        assert row.source == f"Table 1, row {list(ROWS).index(row.name) + 1}"


def test_rows_are_differences_in_which_parts_are_there() -> None:
    table = load_table("table1")
    assert table.base == "baseline"
    assert {row.name: (row.model, row.options) for row in table.rows} == {
        "baseline": ("blendmask", {}),
        "HBB": ("b2inst-blendmask", {"scoring": []}),
        "HBB+BS": ("b2inst-blendmask", {"scoring": ["boundary"]}),
        "HBB+MS": ("b2inst-blendmask", {"scoring": ["iou"]}),
        "HBB+BS+MS": ("b2inst-blendmask", {"scoring": ["iou", "boundary"]}),
    }


def test_columns_are_those_of_the_contract() -> None:
    assert load_table("table1").columns == (
        *("AP", "AP50", "AP75", "APs", "APm", "APl"),
        *("boundary_AP", "box_AP"),
    )


@pytest.mark.parametrize("profile", ["smoke", "tiny", "small", "coco-1x", "coco-3x"])
def test_every_profile_gives_a_run_for_each_row_and_seed(profile: str) -> None:
    specs = load_table("table1").run_specs(load_profile(profile), (0, 1))
    assert list(specs) == list(ROWS)
    assert all([spec.seed for spec in row] == [0, 1] for row in specs.values())
    assert len({spec.hash for row in specs.values() for spec in row}) == 10
