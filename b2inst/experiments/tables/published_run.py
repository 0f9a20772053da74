"""Runs of other machines, as their records in ``results/`` tell of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from b2inst.experiments import Run, RunSpec, RunStatus, SplitName, Workspace
from b2inst.experiments.runs.runner import is_complete
from b2inst.experiments.runs.store import read_json


class PublishedRun(Run):
    """What the record of a published run holds: not its weights, predictions and resamples."""

    def __init__(self, record: Path) -> None:
        super().__init__(record.with_suffix(""))
        self._record = read_json(record)

    @property
    def status(self) -> RunStatus:
        return RunStatus.TRAINED

    def provenance(self) -> dict[str, Any]:
        return self._record["provenance"]

    def metrics(self, split: str) -> dict[str, Any] | None:
        found = self._record["evaluation"]
        return found if found["split"] == split else None


def published_run(
    spec: RunSpec, profile: str, split: SplitName, workspace: Workspace
) -> PublishedRun | None:
    """Read the record of a run, if it was published as the current code would evaluate it."""
    record = workspace.published / profile / "runs" / f"{spec.hash}.json"
    found = PublishedRun(record) if record.is_file() else None
    return found if found and is_complete(found, spec, split) else None
