"""Processes for several devices, and which of them is named when they fail."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from b2inst.experiments.runs.processes import STOPPED
from b2inst.experiments.runs.torchrun import cause, main

#: Stands in for the worker; the second of two ends as it is told.
FAKE = """
import json, os, sys, time
from pathlib import Path
folder, end = Path(sys.argv[1]), sys.argv[2]
variables = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "OMP_NUM_THREADS")
note = {name: os.environ[name] for name in variables}
(folder / f"{os.environ['RANK']}.json").write_text(json.dumps(note))
if end and os.environ["RANK"] == "0":
    time.sleep(60)  # as one that waits for the other
while not (folder / "0.json").exists():
    time.sleep(0.01)
if end == "stopped":
    sys.exit(130)
if end == "killed":
    os.kill(os.getpid(), 9)
if end == "told":
    message = {"message": "DataError: images/6.png: no image", "extraInfo": {"timestamp": "1"}}
    Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(json.dumps({"message": message}))
    sys.exit(1)
if end == "silent":
    sys.exit(3)
"""


@pytest.fixture(autouse=True)
def _handlers_given_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torchrun is a process of its own, and leaves its handlers and variables there."""
    before = os.environ.copy()
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    yield
    for number, handler in handlers.items():
        if signal.getsignal(number) is not handler:
            signal.signal(number, handler)
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize(
    ("end", "status", "line"),
    [
        ("", 0, ""),
        ("stopped", STOPPED, ""),
        ("killed", 1, "process 2 of 2 was killed by the system, most likely for want of memory"),
        ("told", 1, "process 2 of 2 failed: DataError: images/6.png: no image"),
        ("silent", 1, "process 2 of 2 ended with exit status 3"),
    ],
)
def test_a_process_for_each_device_and_the_one_that_failed_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], end: str, status: int, line: str
) -> None:
    (tmp_path / "worker.py").write_text(FAKE)
    command = ["--devices", "2", "--", str(tmp_path / "worker.py"), str(tmp_path), end]
    assert main(command) == status
    printed = capsys.readouterr().err.splitlines()
    assert line == "" or printed[-1].startswith(line)
    for rank in "01":
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == {
            "RANK": rank,
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "OMP_NUM_THREADS": "1",
        }


def _failure(folder: Path, rank: int, status: int, when: float | None = None) -> ProcessFailure:
    """Of a process that has recorded its error at some time, or has not."""
    told = folder / f"error-{rank}.json"
    if when is not None:
        told.write_text(json.dumps({"message": {"message": "", "extraInfo": {"timestamp": "7"}}}))
        os.utime(told, (when, when))
    return ProcessFailure(rank, 100 + rank, status, str(told))


def test_the_cause_is_who_was_killed_or_else_who_failed_first(tmp_path: Path) -> None:
    """The others lose their connection, or are ended by SIGTERM."""
    later, ended = _failure(tmp_path, 0, 1, when=7.9), _failure(tmp_path, 3, -15)
    first, killed = _failure(tmp_path, 1, 1, when=7.2), _failure(tmp_path, 2, -9)
    silent, stopped = _failure(tmp_path, 4, 3), _failure(tmp_path, 5, STOPPED)
    for failures, expected in (
        ([later, first, killed, ended], killed),
        ([ended, later, first], first),
        ([ended, later], later),
        ([ended, later, stopped], stopped),
        ([later, silent], later),
    ):
        named = {failure.local_rank: failure for failure in failures}
        assert cause(named) == (expected.local_rank, expected)
