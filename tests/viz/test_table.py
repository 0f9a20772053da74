from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from b2inst.experiments import (
    Resources,
    Run,
    RunError,
    RunSpec,
    TableResult,
    Workspace,
    load_profile,
    load_table,
    run,
)
from b2inst.experiments.runs.datasets import prepare
from b2inst.experiments.tables.speed import table_speed
from b2inst.experiments.tables.table_result import ResultRow
from b2inst.viz.table import (
    cost_frame,
    save_boundaries,
    save_comparison,
    save_curves,
    save_designs,
    save_differences,
    save_speed,
    save_stages,
    save_strip,
)

ROWS = {"baseline": "blendmask", "HBB": "b2inst-blendmask"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[TableResult, Workspace]:
    """Two rows of the smoke profile, really run, and a third that was not."""
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("B2INST_COCO_TINY", raising=False)
        plan = load_profile("smoke", workspace=workspace)
    plan = plan.model_copy(
        update={
            "data": prepare(plan.data, workspace.data),
            "schedule": plan.schedule.model_copy(update={"iterations": 2}),
        }
    )
    specs: dict[str, RunSpec] = {
        row: plan.run_spec(family, {}, seed=0) for row, family in ROWS.items()
    }
    machine = Resources(threads=1, device="cpu")
    runs = {
        row: run(spec, workspace, machine=machine, progress=False) for row, spec in specs.items()
    }
    costs = {
        "seed": 0,
        "commit": "0123456789abcdef",
        "device": "cpu",
        "wall_seconds": 90.0,
        "peak_memory_mb": 1500.0,
    }
    result = TableResult(
        table="table1",
        profile="smoke",
        columns=["AP"],
        rows=[
            *(
                ResultRow(
                    name=row,
                    paper={},
                    runs=[of.hash],
                    base="baseline" if row == "HBB" else None,
                    status="run",
                )
                for row, of in runs.items()
            ),
            ResultRow(name="HBB+BS", paper={}, status="not run"),
        ],
        provenance={"split": "test", "runs": {of.hash: costs for of in runs.values()}},
    )
    return result, workspace


def test_curves_lie_beside_the_table(made: tuple[TableResult, Workspace]) -> None:
    result, workspace = made
    path = save_curves(result, workspace)
    assert path == workspace.results / "smoke" / "table1" / "curves.png"
    with Image.open(path) as image:
        assert image.width > image.height > 100


def test_two_rows_are_compared_with_the_second_ones_boundary(
    made: tuple[TableResult, Workspace],
) -> None:
    result, workspace = made
    sizes = {}
    for second in ("HBB", "baseline"):
        path = save_comparison(
            result, workspace, first="baseline", second=second, names=("BlendMask", "B2Inst")
        )
        with Image.open(path) as image:
            sizes[second] = image.size
    assert path == workspace.results / "smoke" / "table1" / "qualitative.png"
    assert sizes["HBB"][0] > sizes["baseline"][0], "one column more: the boundary basis"


def test_pairs_side_by_side_each_with_an_image_and_one_by_lot(
    made: tuple[TableResult, Workspace],
) -> None:
    result, workspace = made
    sizes = []
    for drawn in (0, 1):
        path = save_strip(result, workspace, drawn=drawn)
        assert path == workspace.results / "smoke" / "table1" / "qualitative.png"
        with Image.open(path) as image:
            sizes.append(image.size)
    assert sizes[0][0] == sizes[1][0], "truth, two models and a boundary"
    assert sizes[1][1] > 1.5 * sizes[0][1], "one image more"


def test_what_rows_cost_and_gain(made: tuple[TableResult, Workspace]) -> None:
    result, workspace = made
    folder = workspace.results / "smoke" / "table1"
    assert save_differences(result, workspace) == folder / "differences.png"
    assert save_speed(result, workspace) == folder / "speed.png"
    with pytest.raises(RunError, match=r"speed\.json"):
        save_stages(result, workspace)
    runs = {row.name: Run(workspace.runs / row.runs[0]) for row in result.rows if row.runs}
    table_speed(
        runs,
        {"HBB": "baseline"},
        folder / "speed.json",
        data=runs["HBB"].spec().data,
        split="test",
        workspace=workspace,
        device="cpu",
        progress=False,
    )
    with Image.open(save_stages(result, workspace)) as image:
        assert image.width > image.height


def test_designs_are_drawn_before_anything_is_trained(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    path = save_designs(load_table("table2"), "tiny", workspace)
    assert path == tmp_path / "results/local/tiny" / "table2" / "designs.png"
    with Image.open(path) as image:
        assert image.width > image.height > 300
    assert not workspace.runs.exists()


def test_boundaries_of_the_rows_that_have_one(made: tuple[TableResult, Workspace]) -> None:
    result, workspace = made
    path = save_boundaries(result, workspace, first="baseline", second="HBB", best=1, drawn=1)
    assert path == workspace.results / "smoke" / "table1" / "boundaries.png"
    with Image.open(path) as image:
        assert image.width > image.height, "three columns, two rows"


def test_a_row_that_was_not_run_cannot_be_compared(
    made: tuple[TableResult, Workspace], tmp_path: Path
) -> None:
    result, workspace = made
    with pytest.raises(RunError, match=r"HBB\+BS.*make table1 PROFILE=smoke"):
        save_comparison(result, workspace, first="baseline", second="HBB+BS", names=("a", "b"))
    with pytest.raises(RunError, match="baseline"):
        save_curves(result, Workspace(tmp_path))


def test_costs_are_told_by_run(made: tuple[TableResult, Workspace]) -> None:
    result, _ = made
    frame = cost_frame(result)
    assert frame["row"].tolist() == list(ROWS)
    assert frame["minutes"].tolist() == [1.5, 1.5]
    assert frame["peak memory [GB]"].tolist() == [1.5, 1.5]
