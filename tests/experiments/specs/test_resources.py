from __future__ import annotations

import os

import pytest

from b2inst.experiments.specs.resources import Resources


@pytest.mark.parametrize(
    ("machine", "variable", "cores", "threads"),
    [
        (Resources(threads=3), "5", 16, 3),
        (Resources(jobs=4), "5", 16, 5),
        (Resources(), "", 16, 16),
        (Resources(), "4,2", 16, 16),  # for nested threads, which are not used here
        (Resources(jobs=2, devices=2, workers=1), "", 16, 3),
        (Resources(workers=8), "", 2, 1),
    ],
)
def test_threads(
    machine: Resources, variable: str, cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert machine.settled() == machine.model_copy(update={"threads": threads})
