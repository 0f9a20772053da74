"""Processes for several devices, and which of them is named when they fail."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.elastic.multiprocessing.errors import get_error_handler
from torch.distributed.launcher import api

from b2inst.experiments.runs import job as module
from b2inst.experiments.runs.job import STOPPED, Job, work
from b2inst.experiments.specs.errors import RunError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace


def _rank(job: Job) -> None:
    """Stands in for the work of each process; the second of two ends as the split's name says."""
    folder, end = job.workspace.root, str(job.split)
    assert job.machine.devices == 1
    variables = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "OMP_NUM_THREADS")
    note = {name: os.environ[name] for name in variables}
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(note))
    if end != "test" and os.environ["RANK"] == "0":
        time.sleep(60)  # as one that waits for the other
    while not (folder / "0.json").exists():
        time.sleep(0.01)
    if end == "stopped":
        sys.exit(130)
    if end == "killed":
        os.kill(os.getpid(), 9)
    if end == "told":
        get_error_handler().record_exception(ValueError("images/6.png: no image"))
        sys.exit(1)
    if end == "silent":
        sys.exit(3)


@pytest.fixture
def _handlers_given_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The work has a process of its own, and leaves its handlers and variables there."""
    before = os.environ.copy()
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    for number, handler in handlers.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("_handlers_given_back")
@pytest.mark.parametrize(
    ("end", "status", "line"),
    [
        ("test", 0, ""),
        ("stopped", STOPPED, ""),
        ("killed", 1, "process 2 of 2 was killed by the system, most likely because memory"),
        ("told", 1, "process 2 of 2 failed: ValueError: images/6.png: no image"),
        ("silent", 1, "process 2 of 2 ended with exit status 3"),
    ],
)
def test_a_process_for_each_device_and_the_one_that_failed_is_named(
    tmp_path: Path,
    spec: RunSpec,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    end: Any,
    status: int,
    line: str,
) -> None:
    monkeypatch.setattr(module, "_exit_with", _rank)
    forked = partial(api.LaunchConfig, start_method="fork")  # a new process imports everything anew
    monkeypatch.setattr(api, "LaunchConfig", forked)
    assert work(Job(spec, Workspace(tmp_path), end, Resources(devices=2, threads=1))) == status
    printed = capsys.readouterr().err.splitlines()
    assert line == "" or printed[-1].startswith(line)
    for rank in "01":
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == {
            "RANK": rank,
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "OMP_NUM_THREADS": "1",
        }


@pytest.mark.usefixtures("_handlers_given_back")
@pytest.mark.parametrize(
    ("error", "status", "last"),
    [
        (RunError("runs/1: busy"), 1, "RunError: runs/1: busy"),
        (ZeroDivisionError("division by zero"), 1, "ZeroDivisionError: division by zero"),
        (KeyboardInterrupt(), STOPPED, ""),
    ],
)
def test_the_last_line_says_why_a_run_failed(
    spec: RunSpec,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    last: str,
) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(module, "run", run)
    assert work(Job(spec, workspace, "test", Resources())) == status
    printed = capsys.readouterr().err
    assert printed.rstrip().endswith(last)
    assert ("Traceback" in printed) == isinstance(error, ZeroDivisionError)  # that is a bug of ours
