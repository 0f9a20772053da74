"""Runs as processes: side by side, stopped cleanly, none taking others with it, under one bar."""

from __future__ import annotations

import importlib
import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from b2inst.experiments.runs import launch
from b2inst.experiments.runs.children import child_environment
from b2inst.experiments.runs.datasets import prepare
from b2inst.experiments.runs.launch import Progress, gpus_of_jobs, last_iteration, run_all
from b2inst.experiments.runs.store import Run, open_run, write_json
from b2inst.experiments.specs.errors import RunError, SpecError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace

#: The worker with another ``run``: it notes when it ran, then ends as the run's seed says.
FAKE = """
import json, os, resource, time
from b2inst.data import DataError
from b2inst.experiments.runs import job as module
from b2inst.experiments.runs.store import open_run

def run(spec, workspace, **_):
    folder = open_run(workspace.runs, spec).folder
    note = folder / "note.json"
    facts = {"begun": time.time(), "process": os.getpid(), "parent": os.getppid()}
    facts |= {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        b"x" * 2**26
    facts["page_faults"] = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    note.write_text(json.dumps(facts))
    if spec.seed == 7:
        print("a first line")
        raise DataError("images/7.png: not readable")
    if spec.seed == 8:
        os.kill(os.getpid(), 9)
    if spec.seed == 9:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            (folder / "stopped").touch()
            raise
    time.sleep(0.4)
    note.write_text(json.dumps(facts | {"ended": time.time()}))

def work(job):
    module.run = run
    return module.work(job)
"""

#: A program that starts runs, and does not know that it will be killed.
PARENT = """
import sys
from pathlib import Path
import fake_worker
from b2inst.experiments.runs import launch
from b2inst.experiments.runs.launch import run_all
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace
if __name__ == "__main__":
    launch.work = fake_worker.work
    spec = RunSpec.model_validate_json(Path(sys.argv[1]).read_text())
    run_all({"row": spec}, Workspace(Path(sys.argv[2])), split="test", machine=Resources())
"""


#: A process that works on one run.
WORKER = """
import sys
from pathlib import Path
from b2inst.experiments import Resources, RunSpec, Workspace
from b2inst.experiments.runs.job import Job, work
spec = RunSpec.model_validate_json(Path(sys.argv[1]).read_text())
sys.exit(work(Job(spec, Workspace(Path(sys.argv[2])), "test", Resources())))
"""


@pytest.fixture
def fake_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake_worker.py").write_text(FAKE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "fake_worker", raising=False)
    monkeypatch.setattr(launch, "work", importlib.import_module("fake_worker").work)


def _specs(spec: RunSpec, *seeds: int) -> dict[str, RunSpec]:
    return {f"row seed {seed}": spec.model_copy(update={"seed": seed}) for seed in seeds}


def _run_all(specs: dict[str, RunSpec], workspace: Workspace, **machine: Any) -> None:
    run_all(specs, workspace, split="test", machine=Resources(**machine))


def _note(workspace: Workspace, spec: RunSpec) -> dict[str, Any]:
    note: dict[str, Any] = json.loads(
        (open_run(workspace.runs, spec).folder / "note.json").read_text()
    )
    return note


@pytest.mark.usefixtures("fake_worker")
@pytest.mark.parametrize("jobs", [1, 2])
def test_as_many_at_a_time_as_there_are_jobs(
    spec: RunSpec, workspace: Workspace, jobs: int
) -> None:
    specs = _specs(spec, 0, 1, 2)
    _run_all(specs, workspace, jobs=jobs)
    notes = [_note(workspace, spec) for spec in specs.values()]
    together = max(
        sum(other["begun"] <= note["begun"] < other["ended"] for other in notes) for note in notes
    )
    assert together == jobs
    assert len({note["process"] for note in notes}) == 3
    (forked_from,) = {note["parent"] for note in notes}
    assert forked_from != os.getpid()


@pytest.mark.usefixtures("fake_worker")
def test_one_failure_does_not_stop_the_others(spec: RunSpec, workspace: Workspace) -> None:
    specs = _specs(spec, 7, 8, 0, 1)
    with pytest.raises(RunError) as error:
        _run_all(specs, workspace, jobs=1)
    message = str(error.value)
    assert message.startswith("2 of 4 runs did not complete (2 did, and are kept): ")
    assert "row seed 7: DataError: images/7.png: not readable" in message
    assert f"runs/{specs['row seed 7'].hash}/output.txt" in message
    assert "row seed 8: was killed by the system" in message
    assert message.endswith("; rerun to resume from the last checkpoints")
    assert all("ended" in _note(workspace, specs[f"row seed {seed}"]) for seed in (0, 1))


def test_more_than_this_machine_has_is_refused(
    spec: RunSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SpecError, match="2 machines for a run; only --launcher slurm"):
        _run_all(_specs(spec, 0), workspace, machines=2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    with pytest.raises(SpecError, match="4 devices per run, but this machine has 2 GPUs"):
        _run_all(_specs(spec, 0), workspace, devices=4)


@pytest.mark.parametrize(
    ("machine", "present", "expected"),
    [
        ({"jobs": 2, "devices": 2}, "0123", ["0,1", "2,3"]),
        ({"jobs": 3}, "25", ["2", "5", "2"]),  # two share one
        ({"jobs": 2, "devices": 2}, "012", ["0,1", "0,1"]),
        ({"jobs": 1, "devices": 2}, "0123", [None]),
        ({"jobs": 2, "device": "cpu"}, "01", [None, None]),
        ({"jobs": 2}, "", [None, None]),
    ],
)
def test_each_job_has_gpus_of_its_own(
    machine: dict[str, Any], present: str, expected: list[str | None]
) -> None:
    assert gpus_of_jobs(Resources(**machine), present) == expected


@pytest.mark.usefixtures("fake_worker")
def test_each_run_has_the_threads_of_its_machine(
    spec: RunSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for threads in (3, 2):  # the second call finds a fork server that was started for the first
        _run_all(_specs(spec, 0), workspace, threads=threads)
        note = _note(workspace, _specs(spec, 0)["row seed 0"])
        assert note["OMP_NUM_THREADS"] == str(threads)
        assert note["OMP_WAIT_POLICY"] == "passive"
    assert os.environ["OMP_NUM_THREADS"] == "1"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
@pytest.mark.usefixtures("fake_worker")
def test_runs_keep_their_memory(spec: RunSpec, workspace: Workspace) -> None:
    _run_all(_specs(spec, 0), workspace)
    pages = 2**26 // os.sysconf("SC_PAGE_SIZE")
    assert _note(workspace, _specs(spec, 0)["row seed 0"])["page_faults"] < 2 * pages  # not 20


@pytest.mark.usefixtures("fake_worker")
def test_ctrl_c_stops_the_processes(spec: RunSpec, workspace: Workspace) -> None:
    specs = _specs(spec, 9, 0)
    folder = open_run(workspace.runs, specs["row seed 9"]).folder

    def press_when_it_runs() -> None:
        _wait_for(lambda: (folder / "note.json").is_file())
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press_when_it_runs).start()
    with pytest.raises(KeyboardInterrupt):
        _run_all(specs, workspace, jobs=1)
    assert (folder / "stopped").is_file()
    assert not open_run(workspace.runs, specs["row seed 0"]).folder.exists()


@pytest.mark.usefixtures("fake_worker")
def test_a_run_stops_with_its_parent(spec: RunSpec, tmp_path: Path) -> None:
    spec = spec.model_copy(update={"seed": 9})
    folder = open_run(Workspace(tmp_path).runs, spec).folder
    (tmp_path / "parent.py").write_text(PARENT)
    write_json(tmp_path / "spec.json", spec.model_dump(mode="json"))
    parent = subprocess.Popen(
        [sys.executable, tmp_path / "parent.py", tmp_path / "spec.json", tmp_path],
        env={**os.environ, **child_environment()},
        stderr=subprocess.PIPE,
        text=True,
    )
    _wait_for(lambda: (folder / "note.json").is_file())
    parent.kill()
    _wait_for(lambda: (folder / "stopped").is_file())
    _, printed = parent.communicate(timeout=60)  # until all that hold its stderr are gone
    assert "Traceback" not in printed + (folder / "output.txt").read_text()


def test_a_killed_run_resumes_with_the_same_numbers(
    spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = spec.schedule.model_copy(update={"iterations": 25})
    spec = spec.model_copy(update={"schedule": schedule})
    whole, broken = Workspace(tmp_path / "whole"), Workspace(tmp_path / "broken")
    for workspace in (whole, broken):
        prepare(spec.data, workspace.data)
    began = open_run(broken.runs, spec)
    write_json(tmp_path / "spec.json", spec.model_dump(mode="json"))
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, tmp_path / "spec.json", broken.root],
        env={**os.environ, **child_environment(threads=1)},
    )
    _wait_for(lambda: last_iteration(began.log_path) >= 3)
    worker.kill()
    worker.wait()
    assert last_iteration(began.log_path) < 25

    for workspace in (broken, whole):
        _run_all({"row": spec}, workspace, threads=1)
    resumed, straight = (open_run(w.runs, spec) for w in (broken, whole))
    assert resumed.provenance()["steps"]["train"]["sessions"] == 2
    ours, theirs = load_file(resumed.model_path), load_file(straight.model_path)
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    assert resumed.metrics("test") == straight.metrics("test")
    assert [line["iteration"] for line in resumed.log()] == list(range(1, 26))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the process by /proc")
def test_one_of_two_processes_killed_ends_a_run_that_resumes(spec: RunSpec, tmp_path: Path) -> None:
    """Minutes: six processes import everything anew."""
    schedule = spec.schedule.model_copy(update={"iterations": 100})
    spec = spec.model_copy(update={"schedule": schedule})
    whole, broken = Workspace(tmp_path / "whole"), Workspace(tmp_path / "broken")
    began = open_run(broken.runs, spec)

    def complete(workspace: Workspace) -> Run:
        prepare(spec.data, workspace.data)
        _run_all({"row": spec}, workspace, devices=2, device="cpu", threads=1)
        return open_run(workspace.runs, spec)

    def kill_the_second() -> None:
        _wait_for(lambda: last_iteration(began.log_path) >= 3)
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                output = (process / "fd/1").readlink()
                if (
                    output == began.output_path
                    and b"spawn_main" in (process / "cmdline").read_bytes()
                ):
                    ranks.append(int(process.name))
        os.kill(max(ranks), signal.SIGKILL)

    ranks: list[int] = []
    killer = threading.Thread(target=kill_the_second)
    killer.start()
    with pytest.raises(RunError) as error:
        complete(broken)
    killer.join()
    assert "row: process 2 of 2 was killed by the system" in str(error.value)
    assert f"(see runs/{spec.hash}/output.txt); rerun to resume" in str(error.value)
    assert last_iteration(began.log_path) < 100

    resumed, straight = complete(broken), complete(whole)
    assert resumed.provenance()["steps"]["train"]["sessions"] == 2
    ours, theirs = load_file(resumed.model_path), load_file(straight.model_path)
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    assert resumed.metrics("test") == straight.metrics("test")
    assert [line["iteration"] for line in resumed.log()] == list(range(1, 101))


def _wait_for(condition: Callable[[], bool], seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


def _log(workspace: Workspace, spec: RunSpec, iteration: int) -> None:
    run = open_run(workspace.runs, spec)
    run.folder.mkdir(parents=True, exist_ok=True)
    run.begin(spec)
    run.log_path.write_text(json.dumps({"iteration": iteration, "lr": 0.1}) + "\n")


def test_it_begins_where_the_runs_stand(
    spec: RunSpec, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    specs = {name: spec.model_copy(update={"seed": i}) for i, name in enumerate("abcd")}
    _log(workspace, specs["a"], 3)
    _log(workspace, specs["b"], 2)
    first = {"a": specs.pop("a")}
    with Progress(specs, workspace, complete=first) as bar:
        # "a" with its evaluation is 3.3 of 13.2 in all, "b" has 2 of its 3 iterations.
        assert f"{100 * (3.3 + 2) / 13.2:3.0f}%" in capsys.readouterr().err
        _log(workspace, specs["b"], 3)
        bar.show(["b"], {})
        assert bar.n == 63
        assert bar.desc.startswith("1 of 4 runs complete, b evaluating, 2 in the queue")
        bar.show(["c"], {"b": None})
        assert bar.n == 66
        assert bar.desc.startswith("2 of 4 runs complete, c preparing, 1 in the queue")
        bar.show([], {"b": None, "c": "DataError: no image", "d": None})
        assert bar.desc.startswith("3 of 4 runs complete, 1 failed")


def test_what_remains_is_estimated_from_what_this_process_did(
    spec: RunSpec, workspace: Workspace
) -> None:
    specs = {name: spec.model_copy(update={"seed": i}) for i, name in enumerate("ab")}
    _log(workspace, specs["a"], 2)
    with Progress(specs, workspace, complete={}) as bar:
        assert _remaining(bar) == "?"
        _log(workspace, specs["a"], 1)  # it was killed, and resumes from an earlier checkpoint
        bar.show(["a"], {})
        assert _remaining(bar) == "?"
        _log(workspace, specs["a"], 3)
        bar.show(["a"], {})
        assert _remaining(bar) == "00:36"  # 20 in 20 s, 36 to go: an evaluation, and a run
        _log(workspace, specs["b"], 3)
        open_run(workspace.runs, specs["a"]).model_path.touch()
        open_run(workspace.runs, specs["b"]).model_path.touch()
        bar.show([], {"a": None, "b": None})
        assert _remaining(bar) == "00:00"


def _remaining(bar: Progress) -> str:
    """What the bar shows after 20 seconds."""
    return re.findall(r"< (\S+)", bar.format_meter(**bar.format_dict | {"elapsed": 20.0}))[0]


def test_the_last_whole_line_of_a_log_counts(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert last_iteration(log) == 0
    log.write_text('{"iteration": 10}\n{"iteration": 20}\n{"iteration": 3')
    assert last_iteration(log) == 20
    log.write_text("".join(f'{{"iteration": {i}, "pad": "{"x" * 90}"}}\n' for i in range(500)))
    assert last_iteration(log) == 499
