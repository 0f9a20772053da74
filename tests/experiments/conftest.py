"""Specs and fabricated runs for the tests of the experiments package."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import b2inst
from b2inst.experiments.runs import code_version
from b2inst.experiments.runs.datasets import prepare
from b2inst.experiments.runs.measuring import RESAMPLES, evaluation_settings
from b2inst.experiments.runs.runner import run
from b2inst.experiments.runs.store import Run, open_run, write_json
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.table_spec import METRICS
from b2inst.experiments.specs.workspace import Workspace

#: Folder of the shipped YAML files.
SPECS = Path(b2inst.__file__).parents[1] / "experiments"

TINY_SPEC = {
    "model": "blendmask-tiny",
    "options": {"attention_size": 7, "shorter": 48, "longer_max": 48},
    "data": {
        "kind": "scenes",
        "size": 48,
        "train": {"images": 4, "seed": 1},
        "val": {"images": 2, "seed": 2},
        "test": {"images": 3, "seed": 3},
        "area_bounds": [120, 200],
    },
    "augmentation": {"shorter": [48], "longer_max": 48, "transpose": 0.5},
    "schedule": {
        "iterations": 3,
        "batch_size": 2,
        "optimizer": "adamw",
        "learning_rate": 0.001,
        "policy": "one-cycle",
        "warmup_iterations": 1,
        "log_every": 1,
        "checkpoint_every": 1,
    },
    "seed": 0,
}


@pytest.fixture(autouse=True)
def _scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Profiles are tested as they are, whichever data the machine has."""
    monkeypatch.delenv("B2INST_COCO_TINY", raising=False)


@pytest.fixture
def specs() -> Path:
    """Folder of the shipped table specs; profiles are below it."""
    return SPECS


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """Gives a script of the folder of experiments, by its name, as a module."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, SPECS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look for their module
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def spec() -> RunSpec:
    """A run of seconds on 48-pixel scenes."""
    return RunSpec.model_validate(TINY_SPEC)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty place of work."""
    return Workspace(tmp_path)


@pytest.fixture(scope="session")
def finished(
    spec: RunSpec, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunSpec, Workspace, Run]:
    """One real run, trained and evaluated in this process, on one thread."""
    workspace = Workspace(tmp_path_factory.mktemp("finished"))
    prepare(spec.data, workspace.data)
    # Sums in the order that a worker with one thread has.
    done = run(spec, workspace, machine=Resources(threads=1), progress=False)
    return spec, workspace, done


FakeRun = Callable[..., Run]


@pytest.fixture
def fake_run() -> FakeRun:
    """Writes the files of a finished run with given metrics; resamples scatter by one point."""

    def write(
        spec: RunSpec, runs: Path, metrics: Mapping[str, float | None], split: str = "test"
    ) -> Run:
        run = open_run(runs, spec)
        write_json(run.spec_path, spec.model_dump(mode="json"))
        provenance = {
            "seed": spec.seed,
            "commit": "c" * 40,
            "dirty": False,
            "device": "cpu",
            "code": {"training": code_version.TRAINING},
            "steps": {"train": {"wall_seconds": 2.0, "peak_memory_mb": 3.0}},
        }
        write_json(run.provenance_path, provenance)
        values = {column: metrics.get(column) for column in METRICS}
        content = {
            "split": split,
            "images": 3,
            **evaluation_settings(spec),
            "metrics": values,
        }
        write_json(run.metrics_path(split), content)
        noise = np.random.default_rng(spec.seed).normal(size=RESAMPLES)
        arrays = {
            column: np.array([np.nan] * (RESAMPLES + 1) if v is None else [v, *(v + noise)])
            for column, v in values.items()
        }
        np.savez(run.resampled_path(split), **arrays)
        run.predictions_path(split).touch()
        run.model_path.touch()
        return run

    return write
