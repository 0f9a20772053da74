"""This machine's table beside the published one, and how it becomes the published one."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from b2inst.experiments.runs.store import read_json, write_json
from b2inst.experiments.specs.errors import RunError
from b2inst.experiments.specs.profile import load_profile
from b2inst.experiments.specs.table_spec import COSTS, METRICS, load_table
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.tables.build import build_table, save_runs
from b2inst.experiments.tables.published import (
    comparison_markdown,
    comparison_text,
    load_published,
    publish,
)
from b2inst.experiments.tables.score_quality import ScoreQuality
from b2inst.experiments.tables.table_result import TableResult

NOTHING_PUBLISHED = "results/ has no table1 of profile smoke and these data to compare with."


def _table(workspace: Workspace, fake_run: Any, seeds: tuple[int, ...]) -> TableResult:
    """Two rows of Table 1; AP of baseline is 40 plus the seed, that of HBB one more."""
    table, profile = load_table("table1"), load_profile("smoke")
    specs = table.run_specs(profile, seeds)
    for place, row in enumerate(("baseline", "HBB")):
        for spec in specs[row]:
            metrics = dict.fromkeys(METRICS, 40.0 + place + spec.seed)
            fake_run(spec, workspace.runs, metrics)
    result = build_table(table, profile, specs, workspace, split="test")
    save_runs(result, workspace)
    result.save(workspace.results / "smoke/table1/table1.json")
    for cost in result.provenance["runs"].values():
        cost["dirty"] = False
    return result


def _published(workspace: Workspace, fake_run: Any, seeds: tuple[int, ...]) -> TableResult:
    result = _table(workspace, fake_run, seeds)
    result.save(workspace.results / "smoke/table1/table1.json")
    publish("smoke", workspace)
    return result


def test_equal_runs_agree_exactly(workspace: Workspace, fake_run: Any) -> None:
    _published(workspace, fake_run, (0, 1))
    text = comparison_text(_table(workspace, fake_run, (0,)), workspace)
    head, baseline, hbb, summary = text.splitlines()
    assert "AP published, 2 seeds" in head
    assert "AP on this machine, 1 seed" in head
    assert baseline.split() == ["baseline", "40.5", "±", "0.7", "(2)", "40.0", "(1)"]
    assert hbb.split() == ["HBB", "41.5", "±", "0.7", "(2)", "41.0", "(1)"]
    assert summary == "2 runs published too: all metrics agree exactly."


def test_a_run_that_rows_share_counts_once(workspace: Workspace, fake_run: Any) -> None:
    result = _published(workspace, fake_run, (0,))
    _table(workspace, fake_run, (0,))
    twice = result.model_copy(update={"rows": [*result.rows, result.rows[-1]]})
    assert "2 runs published too" in comparison_text(twice, workspace)


def test_a_difference_is_told(workspace: Workspace, fake_run: Any) -> None:
    result = _published(workspace, fake_run, (0,))
    record = workspace.published / f"smoke/runs/{result.row('HBB').runs[0]}.json"
    content = read_json(record)
    content["evaluation"]["metrics"]["boundary_AP"] += 0.25
    write_json(record, content)
    text = comparison_markdown(_table(workspace, fake_run, (0,)), workspace)
    assert "2 runs published too, 1 with exactly the same metrics; " in text
    assert "the largest difference of any metric is 0.25." in text


def test_other_seeds_cannot_be_compared(workspace: Workspace, fake_run: Any) -> None:
    _published(workspace, fake_run, (0,))
    text = comparison_text(_table(workspace, fake_run, (1,)), workspace)
    assert text.endswith("No run here has the settings and the seed of a published one.")


def test_nothing_published(workspace: Workspace, fake_run: Any) -> None:
    result = _table(workspace, fake_run, (0,))
    assert load_published("smoke", "table1", workspace) is None
    assert comparison_text(result, workspace) == NOTHING_PUBLISHED
    assert comparison_markdown(result, workspace) == NOTHING_PUBLISHED


def test_a_published_table_of_other_data_is_not_compared(
    workspace: Workspace, fake_run: Any
) -> None:
    published = _published(workspace, fake_run, (0,))
    published.provenance["data"] = "coco-1234"
    published.save(workspace.published / "smoke/table1/table1.json")
    result = _table(workspace, fake_run, (0,))
    assert comparison_text(result, workspace) == NOTHING_PUBLISHED
    assert load_published("smoke", "table1", workspace) == published


def test_publishing_moves_tables_and_keeps_what_has_no_successor(
    workspace: Workspace, fake_run: Any, tmp_path: Path
) -> None:
    kept = workspace.published / "smoke/table2/table2.json"
    old = workspace.published / "smoke/table1/curves.png"
    figures = workspace.results / "smoke/figures/figures.json"  # not a table
    page = workspace.results / "smoke/table1/table1.html"
    scores = page.with_name("score_quality.json")
    for path in (kept, old, figures, page, scores, workspace.results / "bench.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    quality = ScoreQuality(table="table1", profile="smoke", rows=[], provenance={})
    write_json(scores, quality.model_dump(mode="json"))
    result = _published(workspace, fake_run, (0,))
    assert load_published("smoke", "table1", workspace) == result
    assert kept.is_file()
    assert (workspace.published / "smoke/figures/figures.json").is_file()
    assert not old.exists()  # of the replaced table
    assert list(workspace.published.rglob("*.html")) == []
    assert not (workspace.results / "smoke").exists()
    assert (workspace.published / "bench.json").is_file()
    with pytest.raises(RunError, match="results/local/smoke: no results; make some"):
        publish("smoke", workspace)


def test_only_committed_code_is_published(workspace: Workspace, fake_run: Any) -> None:
    result = _table(workspace, fake_run, (0,))
    dirty = result.row("HBB").runs[0]
    result.provenance["runs"][dirty]["dirty"] = True
    path = workspace.results / "smoke/table1/table1.json"
    result.save(path)
    with pytest.raises(RunError, match=f"runs {dirty} were made from code that was not committed"):
        publish("smoke", workspace)
    assert path.is_file()


@pytest.mark.parametrize("seeds", [(), (0,)])
def test_only_what_was_run_here_is_published(
    workspace: Workspace, fake_run: Any, seeds: tuple[int, ...]
) -> None:
    old = _published(workspace, fake_run, (0,))
    result = (
        old
        if seeds
        else build_table(load_table("table1"), load_profile("smoke"), {}, workspace, split="test")
    )
    result.save(workspace.results / "smoke/table1/table1.json")
    with pytest.raises(
        RunError, match=r"table1\.json: was not run here; run it, or delete table1/"
    ):
        publish("smoke", workspace)
    assert load_published("smoke", "table1", workspace) == old


def test_a_table_of_another_split_is_checked_too(workspace: Workspace, fake_run: Any) -> None:
    result = _table(workspace, fake_run, (0,))
    result.provenance["runs"][result.row("HBB").runs[0]]["dirty"] = True
    result.save(workspace.results / "smoke/table1-val/table1.json")
    with pytest.raises(RunError, match=r"table1-val.table1\.json: runs .* not committed"):
        publish("smoke", workspace)


def test_fewer_seeds_do_not_replace_more(workspace: Workspace, fake_run: Any) -> None:
    _published(workspace, fake_run, (0, 1))
    with pytest.raises(
        RunError, match=r"1 of the 2 seeds of the published table; run the others, or"
    ):
        _published(workspace, fake_run, (0,))
    assert load_published("smoke", "table1", workspace).seeds == 2  # type: ignore[union-attr]


PUBLISHED = Path(__file__).parents[3] / "results"


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(PUBLISHED.glob("*/*/*.json")) if "columns" in read_json(path)],
    ids=lambda path: str(path.relative_to(PUBLISHED)),
)
def test_published_tables_follow_from_the_records_of_their_runs(path: Path) -> None:
    table = TableResult.load(path)

    def record(name: str) -> dict[str, Any]:
        beside, common = (folder / f"runs/{name}.json" for folder in path.parents[:2])
        return read_json(beside if beside.is_file() else common)

    records = {row.name: [record(name) for name in row.runs] for row in table.rows}

    def values(row: str, column: str) -> dict[int, float]:
        found = {r["spec"]["seed"]: r["evaluation"]["metrics"].get(column) for r in records[row]}
        return {seed: value for seed, value in found.items() if value is not None}

    for row in table.rows:
        for column in set(row.ours) - {*COSTS}:
            ours = list(values(row.name, column).values())
            cell = row.ours[column]
            assert cell.n == len(ours)
            assert cell.mean == (pytest.approx(statistics.fmean(ours)) if ours else None)
            assert cell.sd == (pytest.approx(statistics.stdev(ours)) if len(ours) > 1 else None)
            delta = row.delta.get(column)
            if delta is not None and delta.mean is not None:
                here, there = values(row.name, column), values(delta.base, column)
                both = [here[seed] - there[seed] for seed in here.keys() & there.keys()]
                assert delta.mean == pytest.approx(statistics.fmean(both), abs=1e-4)
                if len(both) > 1:  # the interval is no narrower than that over seeds
                    arm = stats.t.ppf(0.975, len(both) - 1) * stats.sem(both)
                    low, high = delta.band95 or (0.0, 0.0)
                    assert low <= delta.mean - arm + 1e-4
                    assert high >= delta.mean + arm - 1e-4
