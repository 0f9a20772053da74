from __future__ import annotations

import os

import joblib
import psutil
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


@pytest.mark.parametrize(("allowed", "busy", "expected"), [(48, 0, 48), (48, 30, 44.8), (4, 30, 4)])
def test_free_cores(
    allowed: int, busy: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(joblib, "cpu_count", lambda: allowed)
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: busy)
    assert free_cores() == pytest.approx(expected)


def test_free_cores_of_this_machine() -> None:
    assert 0 <= free_cores() <= (os.cpu_count() or 1)
