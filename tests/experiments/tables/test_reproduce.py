"""``make table1``, with runs that are fabricated instead of trained."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from b2inst.data import DataError, write_scenes
from b2inst.experiments.runs import preflight
from b2inst.experiments.runs.runner import build_model
from b2inst.experiments.runs.store import Run, open_run, read_json, write_json
from b2inst.experiments.specs.data_spec import CocoData, coco_folder
from b2inst.experiments.specs.errors import RunError, SpecError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.table_spec import load_table
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.tables import reproduce
from b2inst.experiments.tables.published import comparison_text, publish
from b2inst.experiments.tables.rendering import to_markdown
from b2inst.experiments.tables.reproduce import make_table
from b2inst.experiments.tables.table_result import TableResult
from b2inst.models import create_model
from b2inst.models.two_stage import CenterMaskSegmenter
from b2inst.weights import WeightsError, save_model

ROWS = [row.name for row in load_table("table1").rows]


class Fabricator:
    """Stands in for ``run_all``; what is in ``failing`` fails, after ``limit`` runs Ctrl-C."""

    def __init__(self, fake_run: Any) -> None:
        self.fake_run = fake_run
        self.calls: list[list[str]] = []
        self.complete: list[str] = []
        self.failing: set[str] = set()
        self.limit = 100
        self.machine: Resources | None = None

    def __call__(
        self,
        specs: Any,
        workspace: Workspace,
        *,
        split: str,
        machine: Resources,
        launcher: str,
        complete: Any,
    ) -> None:
        assert not set(complete) & set(specs)
        self.complete = list(complete)
        self.calls.append(list(specs))
        self.machine = machine
        for done, (label, spec) in enumerate(specs.items()):
            if done == self.limit:
                raise KeyboardInterrupt
            if label not in self.failing:
                label_of_split = spec.data.split_label(split)
                self.fake_run(spec, workspace.runs, {"AP": 40.0 + done}, label_of_split)
        if self.failing:
            raise RunError("1 of 5 runs did not complete")


_models: dict[str, Any] = {}


def _build_once(spec: RunSpec, *, class_names: tuple[str, ...]) -> Any:
    key = repr((spec.model, spec.options, class_names))
    if key not in _models:
        _models[key] = build_model(spec, class_names=class_names)
    return _models[key]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, fake_run: Any) -> Fabricator:
    fabricator = Fabricator(fake_run)
    monkeypatch.setattr(preflight, "build_model", _build_once)
    monkeypatch.setattr(reproduce, "run_all", fabricator)
    return fabricator


def _smoke(workspace: Workspace, **arguments: Any) -> TableResult:
    return make_table("table1", profile="smoke", workspace=workspace, **arguments)


def test_every_row_is_run_once_and_read_back(workspace: Workspace, runs: Fabricator) -> None:
    result = _smoke(workspace, seeds=(0, 1))
    assert runs.calls == [[f"{row} seed {seed}" for row in ROWS for seed in (0, 1)]]
    assert _spec_of(result, "HBB", workspace).row == "table1 · HBB"
    assert {row.status for row in result.rows} == {"run"}
    folder = workspace.results / "smoke"
    names = {path.name for path in (folder / "table1").iterdir()}
    assert names == {f"table1.{end}" for end in ("json", "md", "csv", "tex")}
    assert len(list((folder / "runs").iterdir())) == 10

    again = _smoke(workspace, seeds=(0, 1))
    assert len(runs.calls) == 1
    assert again.rows == result.rows


def test_every_row_may_begin_with_the_same_weights(
    workspace: Workspace, runs: Fabricator, tmp_path: Path
) -> None:
    path = tmp_path / "baseline.safetensors"
    save_model(create_model("blendmask-tiny", num_classes=8, attention_size=5), path)
    started = _smoke(workspace, start=path)
    for row in started.rows:
        stored = read_json(workspace.runs / row.runs[0] / "spec.json")
        assert stored["start"]["path"] == str(path)
        assert stored["options"]["attention_size"] == 5
    fresh = _smoke(workspace)
    assert {r.runs[0] for r in started.rows}.isdisjoint(r.runs[0] for r in fresh.rows)
    path.unlink()
    with pytest.raises(SpecError, match=r"baseline\.safetensors: no such weights file"):
        _smoke(workspace, start=path)


def test_further_seeds_run_only_what_is_missing(workspace: Workspace, runs: Fabricator) -> None:
    _smoke(workspace, seeds=(0,))
    _smoke(workspace, seeds=(0, 1))
    assert runs.calls[1] == [f"{row} seed 1" for row in ROWS]
    assert runs.complete == [f"{row} seed 0" for row in ROWS]  # progress counts them


def test_rows_may_be_chosen(workspace: Workspace, runs: Fabricator) -> None:
    make_table("table1", profile="smoke", rows=["HBB"], workspace=workspace)
    result = make_table("table1", profile="smoke", rows=["HBB+MS"], workspace=workspace)
    assert runs.calls == [["HBB seed 0"], ["HBB+MS seed 0"]]
    status = {row.name: row.status for row in result.rows}
    assert status == {r: "run" if r in {"HBB", "HBB+MS"} else "not run" for r in ROWS}
    with pytest.raises(SpecError, match=r"no rows \['HBBB'\]; it has \['baseline', 'HBB'"):
        make_table("table1", profile="smoke", rows=["HBBB"], workspace=workspace)


def test_rows_that_are_the_same_run_are_run_once(
    workspace: Workspace, runs: Fabricator, specs: Path, tmp_path: Path
) -> None:
    text = (specs / "table1.yaml").read_text()
    (tmp_path / "twice.yaml").write_text(
        text + "  - {name: again, model: b2inst-blendmask, options: {scoring: []}}\n"
    )
    result = make_table(str(tmp_path / "twice.yaml"), profile="smoke", workspace=workspace)
    assert len(runs.calls[0]) == 5
    assert result.row("again").runs == result.row("HBB").runs


def test_a_failed_row_is_told_and_the_others_are_shown(
    workspace: Workspace, runs: Fabricator
) -> None:
    runs.failing = {"HBB seed 0"}
    with pytest.raises(RunError):
        _smoke(workspace)
    result = TableResult.load(workspace.results / "smoke/table1/table1.json")
    assert [row.status for row in result.rows] == ["run", "not run", "run", "run", "run"]
    runs.failing = set()
    assert {row.status for row in _smoke(workspace).rows} == {"run"}
    assert runs.calls[1] == ["HBB seed 0"]


def test_ctrl_c_keeps_what_is_done(workspace: Workspace, runs: Fabricator) -> None:
    runs.limit = 2
    with pytest.raises(KeyboardInterrupt):
        _smoke(workspace)
    runs.limit = 100
    _smoke(workspace)
    assert runs.calls[1] == [f"{row} seed 0" for row in ROWS[2:]]


def test_seeds_and_rows_add_to_what_is_there(workspace: Workspace, runs: Fabricator) -> None:
    _smoke(workspace, seeds=(1,))
    make_table("table1", profile="smoke", rows=["HBB"], seeds=(4,), workspace=workspace)
    result = _smoke(workspace, seeds=(0,))
    assert [len(row.runs) for row in result.rows] == [2, 3, 2, 2, 2]
    assert result.provenance["seeds"] == [0, 1, 4]
    assert runs.calls == [
        [f"{row} seed 1" for row in ROWS],
        ["HBB seed 4"],
        [f"{row} seed 0" for row in ROWS],
    ]


def test_earlier_seeds_are_measured_again_where_the_measuring_has_changed(
    workspace: Workspace, runs: Fabricator
) -> None:
    first = _smoke(workspace, seeds=(1,))
    (name,) = first.row("HBB").runs
    metrics = Run(workspace.runs / name).metrics_path("test")
    write_json(metrics, read_json(metrics) | {"code": "older"})
    assert [len(row.runs) for row in _smoke(workspace, seeds=(0,)).rows] == [2] * 5
    assert "HBB seed 1" in runs.calls[1]
    assert len(runs.calls[1]) == 6


def test_the_published_table_stays(workspace: Workspace, runs: Fabricator) -> None:
    _smoke(workspace, seeds=(0, 1, 2))
    (workspace.results / "smoke").rename(workspace.published / "smoke")
    published = workspace.published / "smoke/table1/table1.json"
    before = published.read_bytes()
    shutil.rmtree(workspace.runs)  # as in a fresh clone: results, but no runs
    runs.limit = 0
    with pytest.raises(KeyboardInterrupt):
        _smoke(workspace)
    assert not workspace.results.exists() or not list(workspace.results.rglob("table1.json"))
    runs.limit = 100
    assert _smoke(workspace).seeds == 1
    assert published.read_bytes() == before


def _publish(workspace: Workspace) -> None:
    """As in a fresh clone: results, but no runs."""
    (workspace.results / "smoke").rename(workspace.published / "smoke")
    shutil.rmtree(workspace.runs)


def test_published_runs_need_not_be_repeated(workspace: Workspace, runs: Fabricator) -> None:
    first = _smoke(workspace, seeds=(0, 1))
    earlier = {row.name: row.ours["AP"] for row in first.rows}
    known = first.row("HBB").delta["AP"]
    first.row("HBB").delta["AP"] = known.model_copy(
        update={"ci95": (known.mean - 0.2, known.mean + 0.3)}
    )
    first.save(workspace.results / "smoke/table1/table1.json")
    _publish(workspace)
    result = _smoke(workspace, seeds=(0, 1, 2), published=True)
    assert runs.calls[1:] == [[f"{row} seed 2" for row in ROWS]]
    added = {row: 40.0 + place for place, row in enumerate(ROWS)}  # as the stand-in numbers them
    values = {
        row: (40.0 + 2 * place, 41.0 + 2 * place, added[row]) for place, row in enumerate(ROWS)
    }
    for row in result.rows:
        assert earlier[row.name].mean == np.mean(values[row.name][:2])
        cell = row.ours["AP"]
        assert (cell.mean, cell.n) == (pytest.approx(np.mean(values[row.name])), 3)
        assert cell.sd == pytest.approx(np.std(values[row.name], ddof=1))
    delta = result.row("HBB").delta["AP"]
    differences = np.subtract(values["HBB"], values["baseline"])
    mean, seeds = differences.mean(), stats.t.ppf(0.975, 2) * stats.sem(differences)
    assert delta.ci95 == pytest.approx((mean - 0.2, mean + 0.3))
    assert delta.band95 == pytest.approx((mean - np.hypot(0.2, seeds), mean + np.hypot(0.3, seeds)))
    assert "the interval over images is as wide as in a published table" in to_markdown(result)
    # Records are of what has been run here alone.
    records = {path.stem for path in (workspace.results / "smoke/runs").iterdir()}
    assert records == {row.runs[2] for row in result.rows}
    assert comparison_text(result, workspace).endswith("seed of a published one.")
    assert publish("smoke", workspace)
    assert len(list((workspace.published / "smoke/runs").iterdir())) == 15


def test_published_differences_are_found_by_their_runs(
    workspace: Workspace, runs: Fabricator, specs: Path, tmp_path: Path
) -> None:
    earlier = _smoke(workspace, seeds=(0, 1)).row("HBB+MS").delta
    _publish(workspace)
    (tmp_path / "mine.yaml").write_text((specs / "table1.yaml").read_text())
    mine = make_table(
        str(tmp_path / "mine.yaml"),
        profile="smoke",
        seeds=(0, 1),
        workspace=workspace,
        published=True,
    )
    found = mine.row("HBB+MS").delta["AP"]
    assert found.ci95 == pytest.approx(earlier["AP"].ci95)
    assert found.band95 == pytest.approx(earlier["AP"].band95)
    assert len(runs.calls) == 1


def test_published_runs_of_no_published_table_have_the_interval_of_the_seeds(
    workspace: Workspace, runs: Fabricator
) -> None:
    _smoke(workspace, seeds=(0, 1))
    _publish(workspace)
    (workspace.published / "smoke/table1/table1.json").unlink()
    delta = _smoke(workspace, seeds=(0,), published=True).row("HBB").delta["AP"]
    assert (delta.mean, delta.sd, delta.ci95, delta.band95) == (2.0, None, None, None)
    shutil.rmtree(workspace.results)
    result = _smoke(workspace, seeds=(0, 1), published=True)
    delta = result.row("HBB").delta["AP"]
    assert (delta.mean, delta.sd, delta.ci95, delta.band95) == (2.0, 0.0, None, (2.0, 2.0))
    assert len(runs.calls) == 1


def test_runs_published_by_another_evaluation_are_repeated(
    workspace: Workspace, runs: Fabricator
) -> None:
    result = _smoke(workspace)
    _publish(workspace)
    record = workspace.published / f"smoke/runs/{result.row('HBB').runs[0]}.json"
    content = read_json(record)
    content["evaluation"]["code"] = "older"
    write_json(record, content)
    assert {row.status for row in _smoke(workspace, published=True).rows} == {"run"}
    assert runs.calls[1:] == [["HBB seed 0"]]


def test_published_runs_of_older_training_code_are_told_and_repeated_on_demand(
    workspace: Workspace, runs: Fabricator
) -> None:
    result = _smoke(workspace)
    _publish(workspace)
    name = result.row("HBB").runs[0]
    record = workspace.published / f"smoke/runs/{name}.json"
    content = read_json(record)
    content["provenance"]["code"] = {"training": 0}
    write_json(record, content)
    with pytest.warns(UserWarning, match=rf"1 of 5 runs: .*HBB seed 0 \({name}\).*--rerun"):
        _smoke(workspace, published=True)
    assert len(runs.calls) == 1
    _smoke(workspace, published=True, rerun=True)
    assert runs.calls[1:] == [["HBB seed 0"]]


def test_published_runs_keep_their_published_speed(
    workspace: Workspace, runs: Fabricator, specs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce, "table_speed", lambda *_, **__: None)

    def make(seeds: tuple[int, ...]) -> TableResult:
        return make_table(
            "table3", profile="smoke", seeds=seeds, workspace=workspace, published=True
        )

    stored = read_json(specs.parent / "results/tiny/table3/speed.json")
    theirs = workspace.published / "smoke/table3/speed.json"
    stored["provenance"]["runs"] = {row.name: row.runs[0] for row in make((0,)).rows if row.runs}
    _publish(workspace)
    write_json(theirs, stored)
    assert stored["benchmark"]["speeds"]
    result = make((0, 1))
    for speed in stored["benchmark"]["speeds"]:
        cell = result.row(speed["model"]).ours["FPS"]
        assert cell.mean == pytest.approx(1e3 / speed["median_ms"])
    assert read_json(workspace.results / "smoke/table3/speed.json") == stored
    stored["provenance"]["runs"]["YOLACT"] = "another"
    write_json(theirs, stored)
    assert make((0, 1)).row("YOLACT").ours["FPS"].mean is None


@pytest.fixture
def mine(tmp_path: Path) -> CocoData:
    """Other data than the profile's."""
    for split in ("train", "val"):
        write_scenes(tmp_path / "mine", split=split, images=2, size=48, seed=len(split))
    return coco_folder(tmp_path / "mine")


def test_tables_of_two_data_sets_make_way_for_each_other(
    workspace: Workspace, runs: Fabricator, mine: CocoData
) -> None:
    (folder := workspace.results / "smoke").mkdir(parents=True)
    _smoke(workspace, seeds=(0,))
    for seed in (1, 2):  # both keep the seeds that they have
        with pytest.warns(UserWarning, match="an earlier table of other data was moved to"):
            own = _smoke(workspace, seeds=(seed,), data=mine)
        assert own.provenance["seeds"] == list(range(1, seed + 1))
        with pytest.warns(UserWarning, match="an earlier table of other data was moved to"):
            scenes = _smoke(workspace, seeds=(seed,))
        assert scenes.provenance["seeds"] == list(range(seed + 1))
    assert len(list(folder.glob("table1*"))) == 2


def test_a_refused_or_interrupted_call_leaves_the_table_of_other_data(
    workspace: Workspace, runs: Fabricator, mine: CocoData
) -> None:
    _smoke(workspace, seeds=(0,))
    with pytest.raises(SpecError, match="has no rows"):
        _smoke(workspace, seeds=(0,), data=mine, rows=["nope"])
    runs.limit = 0
    with pytest.raises(KeyboardInterrupt):
        _smoke(workspace, seeds=(0,), data=mine)
    runs.limit = 100
    assert _smoke(workspace, seeds=(1,), rows=ROWS[:1]).provenance["seeds"] == [0, 1]
    with pytest.warns(UserWarning, match="an earlier table of other data was moved to"):
        _smoke(workspace, seeds=(0,), data=mine)
    assert _smoke(workspace, data=mine, train=False).seeds == 1
    with pytest.warns(UserWarning, match="an earlier table of other data was moved to"):
        scenes = _smoke(workspace, seeds=(2,))
    assert scenes.provenance["seeds"] == [0, 1, 2]
    assert len(list((workspace.results / "smoke").glob("table1*"))) == 2


def test_it_says_what_will_be_run_and_about_how_long_it_takes(
    workspace: Workspace, runs: Fabricator, capsys: pytest.CaptureFixture[str]
) -> None:
    result = _smoke(workspace)
    assert "table1, profile smoke: 5 runs, 0 complete, 0 to be resumed\n" in capsys.readouterr().err
    for cost in result.provenance["runs"].values():
        cost["wall_seconds"] = 120.0
    result.save(workspace.published / "smoke/table1/table1.json")
    _smoke(workspace, seeds=(0, 1), machine=Resources(jobs=2))
    said = capsys.readouterr().err
    assert (
        "10 runs, 5 complete, 0 to be resumed; about 5 min, 2 at a time (as the published" in said
    )
    _smoke(workspace, seeds=(0, 1))
    assert "table1" not in capsys.readouterr().err
    _begun(workspace, _spec_of(result, "HBB", workspace).model_copy(update={"seed": 2}), 3)
    _smoke(workspace, seeds=(2,), rows=["HBB"])
    said = capsys.readouterr().err
    assert "profile smoke: 1 run, 0 complete, 1 to be resumed; about 1 min, 1 at a time" in said


def _begun(workspace: Workspace, spec: RunSpec, iterations: int) -> None:
    run = open_run(workspace.runs, spec)
    write_json(run.spec_path, spec.model_dump(mode="json"))
    run.log_path.write_text(f'{{"iteration": {iterations}, "lr": 0.1}}\n')


def test_published_runs_on_other_data_say_nothing_of_the_time(
    workspace: Workspace, runs: Fabricator, capsys: pytest.CaptureFixture[str]
) -> None:
    result = _smoke(workspace)
    result.provenance["data"] = "coco-1234"
    result.save(workspace.published / "smoke/table1/table1.json")
    _smoke(workspace, seeds=(1,))
    assert "5 runs, 0 complete, 0 to be resumed\n" in capsys.readouterr().err


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The rows of each time that a table was timed; the second time fails."""
    calls: list[list[str]] = []

    def time(rows: Any, bases: Any, file: Path, **_: Any) -> None:
        calls.append(list(rows))
        if len(calls) == 2:
            raise WeightsError("weights of other code")

    monkeypatch.setattr(reproduce, "table_speed", time)
    return calls


def test_only_tables_with_columns_of_costs_are_timed(
    workspace: Workspace, runs: Fabricator, timed: list[list[str]]
) -> None:
    _smoke(workspace)
    assert timed == []
    make_table("table3", profile="smoke", workspace=workspace)
    assert timed == [[row.name for row in load_table("table3").rows]]


def test_rows_are_timed_once_all_have_run_whichever_call_ran_them(
    workspace: Workspace, runs: Fabricator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[set[int]] = []

    def time(rows: Any, *_: Any, **__: Any) -> None:
        seeds.append({run.spec().seed for run in rows.values()})

    monkeypatch.setattr(reproduce, "table_speed", time)
    names = [row.name for row in load_table("table3").rows if row.model]

    def run(seed: int, rows: Any) -> None:
        make_table("table3", profile="smoke", seeds=(seed,), rows=rows, workspace=workspace)

    run(1, names[:-1])
    assert seeds == []
    run(1, names[-1:])
    assert seeds == [{1}]
    run(2, names[:1])
    assert seeds[1:] == [{1}]  # the same weights, which need not be timed again


def test_what_stops_the_timing_leaves_the_table(
    workspace: Workspace, runs: Fabricator, timed: list[list[str]]
) -> None:
    make_table("table3", profile="smoke", workspace=workspace)
    stored = workspace.results / "smoke/table3/table3.json"
    stored.unlink()
    with pytest.raises(WeightsError):
        make_table("table3", profile="smoke", workspace=workspace)
    assert {row.status for row in TableResult.load(stored).rows} == {"run"}
    assert len(runs.calls) == 1


def test_runs_that_failed_are_not_timed(
    workspace: Workspace, runs: Fabricator, timed: list[list[str]]
) -> None:
    runs.failing = {"CondInst seed 0"}
    with pytest.raises(RunError):
        make_table("table3", profile="smoke", workspace=workspace)
    assert timed == []


def test_rendering_needs_no_run(workspace: Workspace, runs: Fabricator) -> None:
    first = _smoke(workspace, seeds=(0, 1, 2))
    shutil.rmtree(workspace.runs)
    markdown = workspace.results / "smoke/table1/table1.md"
    text = markdown.read_text()
    markdown.unlink()
    assert _smoke(workspace, train=False) == first
    assert markdown.read_text() == text
    assert len(runs.calls) == 1


@pytest.mark.parametrize("profile", ["smoke", "coco-1x"])
def test_without_runs_and_results_rows_say_not_run(
    workspace: Workspace, runs: Fabricator, profile: str
) -> None:
    result = make_table("table1", profile=profile, workspace=workspace, train=False)
    assert {row.status for row in result.rows} == {"not run"}
    assert runs.calls == []
    assert not workspace.data.exists()  # nor are data asked for


def test_published_numbers_are_shown_but_are_not_ours(
    workspace: Workspace, runs: Fabricator, tmp_path: Path
) -> None:
    made = _smoke(workspace)
    published = workspace.published / "smoke"
    shutil.move(workspace.results / "smoke", published)
    assert _smoke(workspace, train=False) == made
    assert not (workspace.results / "smoke").exists()
    for split in ("train", "val"):
        write_scenes(tmp_path / "own", split=split, images=2, size=48, seed=1)
    for other in ({"split": "val"}, {"data": coco_folder(tmp_path / "own")}):
        result = _smoke(workspace, train=False, **other)
        assert {row.status for row in result.rows} == {"not run"}


def test_another_split_does_not_touch_what_is_reported(
    workspace: Workspace, runs: Fabricator
) -> None:
    _smoke(workspace, split="val")
    folders = {path.name for path in (workspace.results / "smoke").iterdir()}
    assert folders == {"table1-val"}  # with the records of its runs
    _smoke(workspace)
    assert len(runs.calls[1]) == 5  # to be evaluated on test


def test_runs_of_other_code_warn_until_they_are_rerun(
    workspace: Workspace, runs: Fabricator
) -> None:
    result = _smoke(workspace)
    run = open_run(workspace.runs, _spec_of(result, "HBB", workspace))
    content = read_json(run.provenance_path)
    write_json(run.provenance_path, {**content, "code": {"training": 0}})
    with pytest.warns(
        UserWarning, match=r"1 of 5 runs: trained by another version of the code, .*HBB seed 0"
    ):
        _smoke(workspace)
    assert len(runs.calls) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _smoke(workspace, rerun=True)
    assert runs.calls[1] == ["HBB seed 0"]
    assert len(list(workspace.runs.glob(f"{run.hash}.until-*"))) == 1


def _spec_of(result: TableResult, row: str, workspace: Workspace) -> Any:
    return Run(workspace.runs / result.row(row).runs[0]).spec()


def test_machine_is_the_profiles_unless_given(workspace: Workspace, runs: Fabricator) -> None:
    _smoke(workspace)
    assert runs.machine == Resources(jobs=2, threads=1, batch=4)
    _smoke(workspace, seeds=(5,), machine=Resources(jobs=7))
    assert runs.machine == Resources(jobs=7)


def test_mistakes_are_found_before_any_training(
    workspace: Workspace,
    runs: Fabricator,
    specs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (specs / "table1.yaml").read_text()
    (tmp_path / "bad.yaml").write_text(text.replace("scoring: [iou]", "scorings: [iou]"))
    with pytest.raises(SpecError, match="scorings"):
        make_table(str(tmp_path / "bad.yaml"), profile="smoke", workspace=workspace)
    (tmp_path / "bad.yaml").write_text(text.replace("scoring: [iou]", "max_detections: many"))
    with pytest.raises(SpecError, match="max_detections 'many': give a whole number"):
        make_table(str(tmp_path / "bad.yaml"), profile="smoke", workspace=workspace)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("extends: smoke\ndescription: d\nschedule: {learning_rate: .inf}\n")
    with pytest.raises(SpecError, match=r"'schedule\.learning_rate': Input .* finite number"):
        make_table("table1", profile=str(wrong), workspace=workspace)
    text = "title: t\nsource: s\ncolumns: [AP, FPS]\nrows:\n  - {name: a, paper: {AP: 1}}\n"
    (tmp_path / "none.yaml").write_text(text)
    with pytest.raises(
        SpecError, match=r"no row is run in profile smoke, whose .* tiny, r50, r101"
    ):
        make_table(str(tmp_path / "none.yaml"), profile="smoke", workspace=workspace)

    coco = tmp_path / "coco"
    for seed, split in enumerate(("train", "val")):
        write_scenes(coco, split=split, images=2, size=32, seed=seed)
    image = coco / "val/000001.png"
    whole = image.read_bytes()
    image.write_bytes(whole[:99])
    with pytest.raises(DataError, match=r"000001\.png"):
        _smoke(workspace, data=coco_folder(coco))
    image.write_bytes(whole)
    file = coco / "annotations/instances_val.json"
    content = json.loads(file.read_text())
    content["categories"][3]["name"] = "walrus"
    file.write_text(json.dumps(content))
    with pytest.raises(SpecError, match="other categories"):
        _smoke(workspace, data=coco_folder(coco))
    assert runs.calls == []


def test_skipped_data_are_listed(workspace: Workspace, runs: Fabricator, tmp_path: Path) -> None:
    coco = tmp_path / "coco"
    for seed, split in enumerate(("train", "val")):
        write_scenes(coco, split=split, images=2, size=32, seed=seed)
    (coco / "train/000001.png").unlink()
    with pytest.warns(UserWarning, match=r"skipped entries \(1\):\n.*000001\.png"):
        _smoke(workspace, data=coco_folder(coco, skip_bad=True))
    assert len(runs.calls[0]) == 5


def test_the_least_of_both_limits_of_detections_is_told(
    workspace: Workspace, runs: Fabricator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CenterMaskSegmenter, "max_detections", 1)  # 50 by default, others have 100
    table = tmp_path / "one.yaml"
    table.write_text("title: t\nsource: s\nrows:\n  - {name: a, model: centermask}\n")
    with pytest.warns(UserWarning, match="have more than 1 objects of a category"):
        make_table(str(table), profile="smoke", workspace=workspace)


def test_more_objects_than_detections_are_told_once(
    workspace: Workspace, runs: Fabricator, tmp_path: Path
) -> None:
    profile = tmp_path / "one.yaml"
    profile.write_text("extends: smoke\ndescription: d\nmax_detections: 1\n")
    with pytest.warns(UserWarning, match="have more than 1 objects of a category") as told:
        make_table("table1", profile=str(profile), workspace=workspace, seeds=(0, 1))
    assert sum("objects of a category" in str(one.message) for one in told) == 1
