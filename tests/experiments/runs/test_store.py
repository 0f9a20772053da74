"""What lies in the run store tells what is done."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from b2inst.experiments.runs.store import (
    Run,
    RunStatus,
    open_run,
    read_json,
    write_json,
)
from b2inst.experiments.specs.data_spec import CocoData
from b2inst.experiments.specs.errors import RunError
from b2inst.experiments.specs.run_spec import RunSpec


def test_a_run_is_named_by_its_spec(tmp_path: Path, spec: RunSpec) -> None:
    assert open_run(tmp_path, spec).folder == tmp_path / spec.hash


def test_status_is_read_from_the_files(tmp_path: Path, spec: RunSpec) -> None:
    run = open_run(tmp_path, spec)
    assert run.status is RunStatus.NEW
    assert run.provenance() == {}
    assert run.metrics("test") is None
    assert run.log() == []
    write_json(run.spec_path, spec.model_dump(mode="json"))
    assert run.status is RunStatus.STARTED
    assert run.spec() == spec
    run.model_path.touch()
    assert run.status is RunStatus.TRAINED


def test_a_spec_follows_the_data(tmp_path: Path, spec: RunSpec) -> None:
    data = CocoData(root=tmp_path / "old", sha256={"train": "1" * 64, "val": "2" * 64})
    spec = spec.model_copy(update={"data": data})
    run = open_run(tmp_path, spec)
    assert run.begin(spec) == spec
    longer = spec.schedule.model_copy(update={"checkpoint_every": 2})
    moved = data.model_copy(update={"root": tmp_path / "new", "boundary_pixels": 2})
    later = spec.model_copy(update={"data": moved, "schedule": longer})
    assert later.hash == spec.hash
    assert run.begin(later).schedule == spec.schedule  # resuming needs the old one
    assert run.spec().data == moved


def test_log_leaves_out_a_line_cut_by_a_kill(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.log_path.write_text('{"iteration": 1}\n{"iteration": 2}\n{"itera')
    assert run.log() == [{"iteration": 1}, {"iteration": 2}]


def test_setting_aside_loses_nothing(tmp_path: Path, spec: RunSpec) -> None:
    run = open_run(tmp_path, spec)
    write_json(run.spec_path, spec.model_dump(mode="json"))
    kept = run.set_aside()
    assert run.status is RunStatus.NEW
    assert Run(kept).spec() == spec
    assert kept.name.startswith(spec.hash)


def test_two_processes_do_not_share_a_run(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    run = Run(tmp_path / "abc")
    # A lock belongs to the open file, so that one process can stand for two.
    message = "another process is working on this run"
    with run.locked(), pytest.raises(RunError, match=message), run.locked():
        pass
    with run.locked():
        pass


def test_json_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a/b.json"
    write_json(path, {"AP": 1.5, "name": "Δ"})
    assert read_json(path) == {"AP": 1.5, "name": "Δ"}
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"AP": float("nan")})
    assert read_json(path) == {"AP": 1.5, "name": "Δ"}
    assert [p.name for p in path.parent.iterdir()] == ["b.json"]


def test_damaged_json_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text('{"AP": ')
    with pytest.raises(RunError, match=r"metrics\.json: cannot be read .*remove it"):
        read_json(path)


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda k: write_json(path, {"k": k, "pad": "x" * 100_000}), range(64)):
            pass
    assert read_json(path)["k"] in range(64)
    assert [*tmp_path.iterdir()] == [path]
