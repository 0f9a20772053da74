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
from b2inst.viz.table import TableFigures, cost_frame, save_designs

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


@pytest.fixture
def figures(made: tuple[TableResult, Workspace]) -> TableFigures:
    return TableFigures(*made)


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_curves_are_saved_beside_the_table(figures: TableFigures) -> None:
    path = figures.curves()
    assert path == figures.workspace.results / "smoke" / "table1" / "curves.png"
    width, height = size(path)
    assert width > height > 100


def test_rows_are_compared_with_the_boundary_of_the_second(figures: TableFigures) -> None:
    path = figures.qualitative([("baseline", "HBB")], best=0)
    assert path == figures.workspace.results / "smoke" / "table1" / "qualitative.png"
    first = size(path)
    more = size(figures.qualitative([("baseline", "HBB")], best=1))
    assert more[0] == first[0], "ground truth, two models and a boundary"
    assert more[1] > 1.3 * first[1], "another image"
    twice = size(figures.qualitative([("HBB", "baseline"), ("baseline", "HBB")]))
    assert twice != first


def test_differences_and_costs(figures: TableFigures) -> None:
    folder = figures.workspace.results / "smoke" / "table1"
    assert figures.differences() == folder / "differences.png"
    assert figures.contrasts() == folder / "contrasts.png"
    assert figures.tradeoffs() == folder / "tradeoffs.png"
    with pytest.raises(RunError, match=r"speed\.json"):
        figures.stages()
    runs = {
        row.name: Run(figures.workspace.runs / row.runs[0])
        for row in figures.result.rows
        if row.runs
    }
    table_speed(
        runs,
        {"HBB": "baseline"},
        folder / "speed.json",
        data=runs["HBB"].spec().data,
        split="test",
        workspace=figures.workspace,
        device="cpu",
    )
    width, height = size(figures.stages())
    assert width > height


def test_designs_are_drawn_before_anything_is_trained(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    path = save_designs(load_table("table2"), "tiny", workspace)
    assert path == tmp_path / "results/local/tiny" / "table2" / "designs.png"
    with Image.open(path) as image:
        assert image.width > image.height > 300
    assert not workspace.runs.exists()


def test_boundaries_of_the_rows_that_have_one(figures: TableFigures) -> None:
    path = figures.boundaries("baseline", "HBB")
    assert path == figures.workspace.results / "smoke" / "table1" / "boundaries.png"
    width, height = size(path)
    assert abs(height / width - 1) < 0.1, "three columns, three rows"


def test_masks_form_of_objects_that_are_found(figures: TableFigures) -> None:
    with pytest.raises(RunError, match="row 'HBB' of table1: no object found"):
        figures.forming("HBB")  # after two iterations


def test_a_row_that_was_not_run_cannot_be_compared(figures: TableFigures, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"HBB\+BS.*b2inst table table1 --profile smoke"):
        figures.qualitative([("baseline", "HBB+BS")])
    with pytest.raises(RunError, match="baseline"):
        TableFigures(figures.result, Workspace(tmp_path)).curves()


def test_costs_are_told_by_run(made: tuple[TableResult, Workspace]) -> None:
    result, _ = made
    frame = cost_frame(result)
    assert frame["row"].tolist() == list(ROWS)
    assert frame["minutes"].tolist() == [1.5, 1.5]
    assert frame["peak memory [GB]"].tolist() == [1.5, 1.5]
