"""From runs to the machine-readable table of the public contract."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from b2inst.experiments import to_markdown
from b2inst.experiments.runs.store import read_json
from b2inst.experiments.specs.profile import Profile, load_profile
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.table_spec import METRICS, Contrast, TableSpec, load_table
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.tables.build import build_table, save_runs
from b2inst.experiments.tables.table_result import TableResult

#: AP by row and seed; boundary AP is ten less, and there is no large instance.
AP = {"baseline": [40.0, 41.0, 42.0], "HBB": [41.0, 41.5, 42.0], "HBB+BS+MS": [44.0, 43.0]}

Plan = tuple[TableSpec, Profile, dict[str, tuple[RunSpec, ...]]]


@pytest.fixture
def plan() -> Plan:
    table, profile = load_table("table1"), load_profile("smoke")
    return table, profile, table.run_specs(profile, (0, 1, 2))


@pytest.fixture
def result(plan: Plan, workspace: Workspace, fake_run: Any) -> TableResult:
    """Two rows of three seeds, one of two, two not run."""
    table, profile, specs = plan
    for row, values in AP.items():
        for spec, ap in zip(specs[row], values, strict=False):
            metrics = dict.fromkeys(METRICS, ap) | {"boundary_AP": ap - 10, "APl": None}
            fake_run(spec, workspace.runs, metrics)
    return build_table(table, profile, specs, workspace, split="test")


def test_means_and_sample_sd_over_seeds(result: TableResult) -> None:
    for row, values in AP.items():
        cell = result.row(row).ours["AP"]
        assert cell.mean == pytest.approx(statistics.mean(values))
        assert cell.sd == pytest.approx(statistics.stdev(values))
        assert cell.n == len(values) == len(result.row(row).runs)
    empty = result.row("baseline").ours["APl"]
    assert (empty.mean, empty.sd, empty.n) == (None, None, 0)


def test_the_profiles_note_stands_under_the_table(result: TableResult, plan: Plan) -> None:
    _, profile, _ = plan
    assert "mean nothing" in str(profile.note)
    assert result.provenance["note"] == profile.note
    assert str(profile.note) in to_markdown(result)


def test_one_seed_has_no_sd(plan: Plan, workspace: Workspace, fake_run: Any) -> None:
    table, profile, specs = plan
    fake_run(specs["HBB"][1], workspace.runs, {"AP": 1.0})
    cell = build_table(table, profile, specs, workspace, split="test").row("HBB").ours["AP"]
    assert (cell.mean, cell.sd, cell.n) == (1.0, None, 1)


def test_differences_are_over_common_seeds_and_paired(result: TableResult) -> None:
    assert result.row("baseline").delta == {}
    delta = result.row("HBB+BS+MS").delta["AP"]
    assert delta.base == "baseline"
    assert delta.mean == pytest.approx(((44 - 40) + (43 - 41)) / 2, abs=1e-4)
    # The fabricated resamples scatter alike for runs of one seed: paired, nothing is left of it.
    assert delta.ci95 == pytest.approx((delta.mean, delta.mean), abs=1e-3)
    assert result.row("HBB").delta["APl"].ci95 is None
    assert result.row("HBB").delta["APl"].inside_noise is None


def test_metrics_that_a_split_does_not_have_have_no_difference(
    plan: Plan, workspace: Workspace, fake_run: Any
) -> None:
    table, profile, specs = plan
    for row in ("baseline", "HBB"):
        run = fake_run(specs[row][0], workspace.runs, dict.fromkeys(METRICS, 40.0))
        arrays = run.resampled("test")
        del arrays["AP50"]
        np.savez(run.resampled_path("test"), **arrays)
    delta = build_table(table, profile, specs, workspace, split="test").row("HBB").delta
    assert delta["AP"].mean == 0
    assert delta["AP50"].mean is None


def test_differences_within_the_noise_of_seeds_are_inside(result: TableResult) -> None:
    # +1, +0.5 and 0: on these images for certain, over three seeds not.
    delta = result.row("HBB").delta["AP"]
    assert delta.ci95 == pytest.approx((0.5, 0.5), abs=1e-3)
    assert delta.sd == pytest.approx(0.5, abs=1e-3)
    low, high = stats.t.interval(0.95, 2, loc=0.5, scale=0.5 / 3**0.5)
    assert delta.band95 == pytest.approx((low, high), abs=1e-2)
    assert delta.inside_noise


def test_contrasts_are_differences_of_any_two_rows(
    plan: Plan, result: TableResult, workspace: Workspace
) -> None:
    table, profile, specs = plan
    contrasts = (
        Contrast(asks="Scoring?", row="HBB+BS+MS", base="HBB"),
        Contrast(asks="One score?", row="HBB+MS", base="HBB"),
    )
    asked = table.model_copy(update={"contrasts": contrasts})
    found, empty = build_table(asked, profile, specs, workspace, split="test").contrasts
    assert (found.asks, found.row, found.base) == ("Scoring?", "HBB+BS+MS", "HBB")
    assert found.delta["AP"].mean == pytest.approx(((44 - 41) + (43 - 41.5)) / 2, abs=1e-3)
    assert empty.delta == {}  # HBB+MS was not run
    assert result.contrasts == []


def test_contrasts_of_unknown_rows_are_refused() -> None:
    content = load_table("table1").model_dump()
    content["contrasts"] = [{"asks": "?", "row": "HBB", "base": "HBBB"}]
    with pytest.raises(ValueError, match=r"'HBBB' is not a row; rows are baseline, HBB"):
        TableSpec.model_validate(content)


def test_rows_have_the_base_they_name(workspace: Workspace, fake_run: Any) -> None:
    table, profile = load_table("table3"), load_profile("smoke")
    specs = table.run_specs(profile, (0,))
    ap = {row: 10.0 * place for place, row in enumerate(specs, start=1)}
    for row, (spec,) in specs.items():
        if row != "CondInst":
            fake_run(spec, workspace.runs, dict.fromkeys(METRICS, ap[row]))
    result = build_table(table, profile, specs, workspace, split="test")
    for row in ("B2Inst-YOLACT", "B2Inst-BlendMask*"):
        delta = result.row(row).delta["box_APs"]
        assert delta.base == result.row(row).base == row.removeprefix("B2Inst-")
        assert delta.mean == pytest.approx(10.0, abs=1e-3)
    # Baselines have no base, and a base that was not run no differences.
    assert [result.row(row).base for row in ("YOLACT", "BlendMask*", "CondInst")] == [None] * 3
    assert (result.row("B2Inst-CondInst").base, result.row("B2Inst-CondInst").delta) == (
        "CondInst",
        {},
    )
    # Nothing was timed: the cells of costs are empty.
    assert result.row("YOLACT").ours["FPS"].mean is None
    assert "FPS" not in result.row("B2Inst-YOLACT").delta


def test_with_one_seed_the_band_is_the_images(
    plan: Plan, workspace: Workspace, fake_run: Any
) -> None:
    table, profile, specs = plan
    fake_run(specs["baseline"][0], workspace.runs, {"AP": 1.0})
    fake_run(specs["HBB"][0], workspace.runs, {"AP": 2.0})
    delta = build_table(table, profile, specs, workspace, split="test").row("HBB").delta["AP"]
    assert delta.sd is None
    assert delta.band95 == delta.ci95 == pytest.approx((1.0, 1.0), abs=1e-3)
    assert delta.inside_noise is False


def test_rows_not_run_say_so(result: TableResult) -> None:
    row = result.row("HBB+MS")
    assert (row.status, row.ours, row.delta, row.runs) == ("not run", {}, {}, [])
    assert row.paper["AP"] == 36.6


def test_json_is_the_contracts(result: TableResult, plan: Plan, tmp_path: Path) -> None:
    table, _, _ = plan
    result.save(tmp_path / "t.json")
    content = json.loads((tmp_path / "t.json").read_text())
    contract = {"table", "profile", "split", "columns", "rows", "contrasts", "provenance"}
    assert content.keys() == contract
    assert content["split"] is None  # the reported one
    assert (content["table"], content["profile"]) == ("table1", "smoke")
    assert content["columns"] == list(table.columns)
    row = content["rows"][1]
    contract = {"name", "paper", "ours", "delta", "runs", "base", "status"}
    assert row.keys() == contract | {"group", "setting", "origin"}
    assert row["name"] == "HBB"
    assert row["paper"]["AP"] == 36.2
    assert row["paper"]["source"] == "Table 1, row 2"
    assert row["ours"]["AP"] == {"mean": 41.5, "sd": 0.5, "n": 3}
    assert row["ours"]["boundary_AP"]["mean"] == 31.5
    assert {"mean", "ci95", "base"} < row["delta"]["AP"].keys()
    assert row["delta"]["AP"]["inside_noise"] is True
    assert len(row["delta"]["AP"]["ci95"]) == 2
    assert all(len(name) == 12 for name in row["runs"])
    assert row["status"] == "run"
    assert {"commit", "dirty", "split", "seeds", "versions", "runs"} <= content["provenance"].keys()
    assert content["provenance"]["images"] == 3
    assert TableResult.load(tmp_path / "t.json") == result


def test_records_of_another_split_are_beside_its_table(
    plan: Plan, workspace: Workspace, fake_run: Any
) -> None:
    table, profile, specs = plan
    for split in ("test", "val"):
        run = fake_run(specs["HBB"][0], workspace.runs, {"AP": 1.0}, split)
        save_runs(build_table(table, profile, specs, workspace, split=split), workspace)
    for folder, split in (("runs", "test"), ("table1-val/runs", "val")):
        record = read_json(workspace.results / f"smoke/{folder}/{run.hash}.json")
        assert record["evaluation"]["split"] == split


def test_each_run_has_a_record_of_its_own(result: TableResult, workspace: Workspace) -> None:
    save_runs(result, workspace)
    folder = workspace.results / "smoke/runs"
    names = {name for row in result.rows for name in row.runs}
    assert {path.stem for path in folder.iterdir()} == names
    name = result.row("HBB").runs[2]
    record = read_json(folder / f"{name}.json")
    assert record["spec"]["seed"] == 2
    assert record["provenance"]["commit"] == "c" * 40
    assert record["evaluation"]["metrics"]["AP"] == 42.0
    assert record["predictions"] == f"runs/{name}/test/predictions.jsonl.gz"
    assert str(workspace.root) not in json.dumps(record)
