from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from b2inst.experiments.specs import resources
from b2inst.experiments.specs.resources import Resources, free_cores


@pytest.mark.parametrize(
    ("machine", "said", "free", "threads"),
    [
        (Resources(threads=3), "5", 16, 3),
        (Resources(jobs=4), "5", 16, 5),
        (Resources(), "", 15.7, 16),
        (Resources(), "4,2", 16, 16),  # of nested threads, which there are none of
        (Resources(jobs=2, devices=2, workers=1), "", 16, 3),
        (Resources(workers=8), "", 2, 1),
        (Resources(), "", 0.2, 1),
    ],
)
def test_threads(
    machine: Resources, said: str, free: float, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    monkeypatch.setattr(resources, "free_cores", lambda: free)
    assert machine.settled() == machine.model_copy(update={"threads": threads})


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ({}, 44.8),  # 0.7 of 64
        ({"cpu.max": "max 100000\n"}, 44.8),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 44.8),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
    ],
)
def test_free_cores(
    groups: dict[str, str], expected: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(48)), raising=False)
    assert free_cores(tmp_path) == 48  # nothing tells how busy they are
    _write(tmp_path / "sys/fs/cgroup", groups)
    _write(tmp_path, {"proc/stat": "cpu  5 0 5 9 1\ncpu0 1 1 1 1 1\n"})
    # user 20, system 10, idle 60, waiting 10: 70 of 100 idle
    later = {"proc/stat": "cpu  25 0 15 69 11\ncpu0 1 1 1 1 1\n"}
    monkeypatch.setattr(time, "sleep", lambda _: _write(tmp_path, later))
    assert free_cores(tmp_path) == pytest.approx(expected)
