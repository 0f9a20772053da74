"""The paper's Table 3, typed again from its text, against ``experiments/table3.yaml``."""

from __future__ import annotations

import pytest

from b2inst.experiments.specs.profile import load_profile
from b2inst.experiments.specs.table_spec import load_table

# Design   FPS   AP AP50 AP75 APs APm APl of masks, then of boxes, as printed
PRINTED = """
YOLACT 45.3 28.1 46.2 29.0 9.7 30.4 46.4 30.2 50.6 31.6 14.5 32.3 44.2
B2Inst-YOLACT 42.5 30.1 48.8 31.6 10.7 32.2 48.1 31.1 53.0 32.3 14.6 34.5 44.8
BlendMask* 10.5 35.8 56.4 38.1 16.9 38.8 51.1 40.2 59.2 43.6 24.2 43.8 51.5
B2Inst-BlendMask* 9.7 36.8 55.7 39.9 17.2 39.9 52.5 40.2 59.0 43.7 23.5 43.6 52.3
"""
MASK = ("AP", "AP50", "AP75", "APs", "APm", "APl")
BOX = tuple(f"box_{name}" for name in MASK)


def test_cells_are_the_papers() -> None:
    lines = [line.split() for line in PRINTED.strip().splitlines()]
    rows = load_table("table3").rows
    for number, (row, (design, *cells)) in enumerate(zip(rows, lines, strict=False), start=1):
        assert row.name == design
        printed = dict(zip(("FPS", *MASK, *BOX), map(float, cells), strict=True))
        assert row.paper == printed
        assert row.source == f"Table 3, row {number}"
    assert [(row.name, row.paper, row.source) for row in rows[4:]] == [
        ("CondInst", {}, None),
        ("B2Inst-CondInst", {}, None),
    ]


def test_columns_are_the_papers_and_boundaries_and_costs() -> None:
    table = load_table("table3")
    assert table.metrics == (*MASK, "boundary_AP", *BOX)
    assert table.costs == ("FPS", "parameters", "GFLOPs")


def test_each_row_is_compared_with_its_own_baseline() -> None:
    table = load_table("table3")
    assert table.bases == {f"B2Inst-{name}": name for name in ("YOLACT", "BlendMask*", "CondInst")}
    models = {row.name: row.model for row in table.rows}
    assert all(models[row] == f"b2inst-{models[base]}" for row, base in table.bases.items())


@pytest.mark.parametrize("profile", ["smoke", "tiny", "small", "coco-1x", "coco-3x"])
def test_the_blendmask_pair_is_table_1s(profile: str) -> None:
    plan = load_profile(profile)
    one, three = (load_table(name).run_specs(plan, (0, 1)) for name in ("table1", "table3"))
    shared = {"baseline": "BlendMask*", "HBB+BS+MS": "B2Inst-BlendMask*"}
    for first, second in shared.items():
        assert [spec.hash for spec in one[first]] == [spec.hash for spec in three[second]]
    assert len({spec.hash for row in three.values() for spec in row}) == 12
