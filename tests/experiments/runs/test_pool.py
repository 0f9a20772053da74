"""Runs as processes: side by side, stopped cleanly, none of them taking others with it."""

from __future__ import annotations

import json
import os
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
import torch
from safetensors.torch import load_file

from b2inst.experiments.runs import orders
from b2inst.experiments.runs.datasets import prepare
from b2inst.experiments.runs.pool import gpus_of_jobs, run_all
from b2inst.experiments.runs.processes import child_environment
from b2inst.experiments.runs.progress import last_iteration
from b2inst.experiments.runs.runner import run
from b2inst.experiments.runs.store import Run, RunStatus, open_run, write_json
from b2inst.experiments.runs.worker import _stop_with_parent
from b2inst.experiments.specs.errors import RunError, SpecError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace

#: Stands in for the worker: notes when it ran, then ends as the run's seed says.
FAKE = """
import json, os, time
from pathlib import Path
imported_in = os.getpid()
def main(arguments):
    order = Path(arguments[0])
    seed = json.loads(order.read_text())["seed"]
    note = order.parent / "note.json"
    facts = {"begun": time.time(), "threads": os.environ.get("OMP_NUM_THREADS")}
    facts |= {"process": os.getpid(), "imported_in": imported_in}
    note.write_text(json.dumps(facts))
    if seed == 6:
        os.kill(imported_in, 9)
        time.sleep(5)
    if seed == 7:
        print("a first line"); print("DataError: images/7.png: not readable"); return 1
    if seed == 8:
        os.kill(os.getpid(), 9)
    if seed == 9:
        while os.read(0, 10): pass
        (order.parent / "stopped").touch(); return 130
    time.sleep(0.4)
    note.write_text(json.dumps(facts | {"ended": time.time()}))
    return 0
"""


@pytest.fixture
def fake_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake_worker.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(orders, "WORKER", ("-m", "fake_worker"))


def _specs(spec: RunSpec, *seeds: int) -> dict[str, RunSpec]:
    return {f"row seed {seed}": spec.model_copy(update={"seed": seed}) for seed in seeds}


def _run_all(specs: dict[str, RunSpec], workspace: Workspace, **machine: int) -> None:
    run_all(specs, workspace, split="test", machine=Resources(**machine), progress=False)


def _note(workspace: Workspace, spec: RunSpec) -> dict[str, float]:
    note: dict[str, float] = json.loads(
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
    assert len({note["imported_in"] for note in notes}) == jobs
    assert len({note["process"] for note in notes}) == 3


@pytest.mark.usefixtures("fake_worker")
def test_one_failure_does_not_stop_the_others(spec: RunSpec, workspace: Workspace) -> None:
    specs = _specs(spec, 7, 8, 0, 6, 1)
    with pytest.raises(RunError) as error:
        _run_all(specs, workspace, jobs=1)
    message = str(error.value)
    assert message.startswith("3 of 5 runs did not complete (2 did, and are kept): ")
    assert "row seed 7: DataError: images/7.png: not readable" in message
    assert f"runs/{specs['row seed 7'].hash}/output.txt" in message
    assert "row seed 8: was killed by the system" in message
    assert "row seed 6: was killed by the system" in message  # with the process that forked it
    assert message.endswith("; run again to go on from the last checkpoints")
    assert all("ended" in _note(workspace, specs[f"row seed {seed}"]) for seed in (0, 1))


def test_more_than_this_machine_has_is_refused(
    spec: RunSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SpecError, match="2 machines for a run; only --launcher slurm"):
        _run_all(_specs(spec, 0), workspace, machines=2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    with pytest.raises(SpecError, match="4 devices for a run; here are 2 GPUs"):
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
def test_threads_are_settled_before_the_process_starts(
    spec: RunSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    specs = _specs(spec, 7)
    for threads, expected in ((3, "3"), (None, "5")):
        with pytest.raises(RunError):
            run_all(
                specs,
                workspace,
                split="test",
                machine=Resources(threads=threads),
                progress=False,
            )
        assert _note(workspace, specs["row seed 7"])["threads"] == expected


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


def test_a_killed_worker_leaves_a_run_that_goes_on(spec: RunSpec, tmp_path: Path) -> None:
    schedule = spec.schedule.model_copy(update={"iterations": 25})
    spec = spec.model_copy(update={"schedule": schedule})
    whole, broken = Workspace(tmp_path / "whole"), Workspace(tmp_path / "broken")
    for workspace in (whole, broken):
        prepare(spec.data, workspace.data)
    began = open_run(broken.runs, spec)
    order = began.folder / "order.json"
    write_json(order, spec.model_dump(mode="json"))
    worker = subprocess.Popen(
        [
            *(sys.executable, "-m", "b2inst.experiments.runs.worker", str(order)),
            *("--root", str(broken.root), "--with-parent"),
        ],
        stdin=subprocess.PIPE,
        env=child_environment(threads=1),
    )
    _wait_for(lambda: last_iteration(began.log_path) >= 3)
    worker.kill()
    worker.communicate()
    assert began.status is RunStatus.STARTED
    assert last_iteration(began.log_path) < 25

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    resumed, straight = (run(spec, w, progress=False) for w in (broken, whole))
    torch.set_num_threads(threads)
    assert resumed.provenance()["steps"]["train"]["sessions"] == 2
    ours, theirs = load_file(resumed.model_path), load_file(straight.model_path)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert resumed.metrics("test") == straight.metrics("test")
    assert [line["iteration"] for line in resumed.log()] == list(range(1, 26))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the process by /proc")
def test_one_of_two_processes_killed_ends_a_run_that_goes_on(spec: RunSpec, tmp_path: Path) -> None:
    """Minutes: nine processes import everything anew."""
    schedule = spec.schedule.model_copy(update={"iterations": 40})
    spec = spec.model_copy(update={"schedule": schedule})
    whole, broken = Workspace(tmp_path / "whole"), Workspace(tmp_path / "broken")
    began = open_run(broken.runs, spec)

    def complete(workspace: Workspace) -> Run:
        prepare(spec.data, workspace.data)
        machine = Resources(devices=2, device="cpu", threads=1)
        run_all({"row": spec}, workspace, split="test", machine=machine, progress=False)
        return open_run(workspace.runs, spec)

    def kill_the_second() -> None:
        _wait_for(lambda: last_iteration(began.log_path) >= 3)
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (
                    str(began.folder).encode() in (process / "cmdline").read_bytes()
                    and b"\0RANK=1\0" in (process / "environ").read_bytes()
                ):
                    os.kill(int(process.name), signal.SIGKILL)

    killer = threading.Thread(target=kill_the_second)
    killer.start()
    with pytest.raises(RunError) as error:
        complete(broken)
    killer.join()
    assert "row: process 2 of 2 was killed by the system" in str(error.value)
    assert f"(see runs/{spec.hash}/output.txt); run again to go on" in str(error.value)
    assert last_iteration(began.log_path) < 40

    resumed, straight = complete(broken), complete(whole)
    assert resumed.provenance()["steps"]["train"]["sessions"] == 2
    ours, theirs = load_file(resumed.model_path), load_file(straight.model_path)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert resumed.metrics("test") == straight.metrics("test")
    assert [line["iteration"] for line in resumed.log()] == list(range(1, 41))


def test_a_worker_stops_when_its_parent_is_gone() -> None:
    reading, writing = os.pipe()
    watcher = threading.Thread(target=_stop_with_parent, args=(reading,))
    watcher.start()

    def lose_parent() -> None:
        os.close(writing)  # as when the parent ends, however it does
        _wait_for(lambda: False, seconds=60)

    with pytest.raises(KeyboardInterrupt):  # from the first moment: it may come at once
        lose_parent()
    watcher.join()
    os.close(reading)


def test_progress_reads_the_last_whole_line(tmp_path: Path) -> None:
    log = Run(tmp_path).log_path
    assert last_iteration(log) == 0
    log.write_text('{"iteration": 10}\n{"iteration": 20}\n{"iter')
    assert last_iteration(log) == 20
    log.write_text("".join(f'{{"iteration": {i}, "pad": "{"x" * 90}"}}\n' for i in range(500)))
    assert last_iteration(log) == 499


def _wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)
