"""The run store: a folder for each run, whose files appear whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from b2inst.data.files import locked, replacing
from b2inst.experiments.specs.errors import RunError
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.yaml_spec import parse_spec


class RunStatus(StrEnum):
    """How far a run has come."""

    NEW = "new"
    STARTED = "started"  #: training has begun, or was interrupted
    TRAINED = "trained"


class Run:
    """The files of one run; those of a split are named by its label ("test", "val2017")."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.hash = folder, folder.name
        self.spec_path = folder / "spec.json"
        self.provenance_path = folder / "provenance.json"
        self.log_path = folder / "log.jsonl"  #: of the training, one JSON object per line
        self.model_path = folder / "model.safetensors"  #: final weights, for ``load_model``
        self.best_path = folder / "best.safetensors"  #: of the best early look, if it had some
        self.output_path = folder / "output.txt"  #: what it printed, if it was a process of its own

    def predictions_path(self, split: str) -> Path:
        return self.folder / split / "predictions.jsonl.gz"

    def resampled_path(self, split: str) -> Path:
        return self.folder / split / "resampled.npz"

    def metrics_path(self, split: str) -> Path:
        return self.folder / split / "metrics.json"

    @property
    def status(self) -> RunStatus:
        if self.model_path.is_file():
            return RunStatus.TRAINED
        return RunStatus.STARTED if self.spec_path.is_file() else RunStatus.NEW

    def spec(self) -> RunSpec:
        """Read the spec the run was started with; a SpecError if it is of another version."""
        return parse_spec(RunSpec, read_json(self.spec_path), source=self.spec_path)

    def begin(self, spec: RunSpec) -> RunSpec:
        """Write the spec, or only where its data are now; return what the run was begun as."""
        begun = spec if self.status is RunStatus.NEW else self.spec()
        if begun is spec or begun.data != spec.data:
            begun = begun.model_copy(update={"data": spec.data})
            write_json(self.spec_path, begun.model_dump(mode="json"))
        return begun

    def provenance(self) -> dict[str, Any]:
        """Read where the run comes from; empty before it has begun."""
        return read_json(self.provenance_path) if self.provenance_path.is_file() else {}

    def metrics(self, split: str) -> dict[str, Any] | None:
        """Read the evaluation on a split, if there is one; AP values are under "metrics"."""
        path = self.metrics_path(split)
        return read_json(path) if path.is_file() else None

    def resampled(self, split: str) -> dict[str, np.ndarray]:
        """Read the metrics on bootstrap resamples of the images of a split, an array per metric."""
        with np.load(self.resampled_path(split), allow_pickle=False) as arrays:
            return dict(arrays)

    def log(self) -> list[dict[str, Any]]:
        """Read the training log so far, without a line cut short by a kill."""
        if not self.log_path.is_file():
            return []
        lines = self.log_path.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def set_aside(self) -> Path:
        """Rename the folder, so that the run can be repeated without losing this one."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        return self.folder.rename(self.folder.with_name(f"{self.hash}.until-{stamp}"))

    def locked(self) -> AbstractContextManager[None]:
        """Hold the run for this process; a RunError if another process has it."""
        busy = f"{self.folder}: another process is working on this run; wait for it or stop it"
        return locked(self.folder, RunError(busy))


def open_run(runs: Path, spec: RunSpec) -> Run:
    """Return the run that ``spec`` describes; a RunError if its name is that of another run."""
    run = Run(runs / (spec.name or spec.hash))
    if spec.name is not None and run.spec_path.is_file() and run.spec().hash != spec.hash:
        raise RunError(
            f"{run.folder}: holds a run of other settings; choose another name, or remove it"
        )
    return run


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; raises a RunError that names the file if it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path}: cannot be read ({error}); remove it, and rerun to create it again"
        ) from None


def write_json(path: Path, content: Any) -> None:
    """Write JSON; the file is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as float32; the file is whole or not there."""
    single: dict[str, Any] = {name: values.astype(np.float32) for name, values in arrays.items()}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **single)
