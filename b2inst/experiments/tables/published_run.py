"""Runs of other machines, as their records in ``results/`` tell of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from b2inst.experiments import Run, RunSpec, RunStatus, SplitName, Workspace
from b2inst.experiments.runs.runner import is_complete
from b2inst.experiments.runs.store import read_json
from b2inst.experiments.tables.table_result import Difference, TableResult


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


class PublishedDifferences(NamedTuple):
    """What a published table says of two rows."""

    runs: set[str]  #: of the row, by hash
    base: set[str]  #: those of the other
    delta: dict[str, Difference]  #: by column

    def common(self, runs: set[str], base: set[str]) -> int:
        """Number of runs of two rows that it is of; 0 if it is of none of either."""
        row, other = len(self.runs & runs), len(self.base & base)
        return row + other if row and other else 0


def published_differences(profile: str, workspace: Workspace) -> Iterator[PublishedDifferences]:
    """Read the differences of all published tables of a profile."""
    for path in sorted((workspace.published / profile).glob("*/*.json")):
        if "columns" in read_json(path) and (table := TableResult.load(path)).split is None:
            shown = [(row.name, row.base, row.delta) for row in table.rows if row.base is not None]
            shown += [(one.row, one.base, one.delta) for one in table.contrasts]
            for row, base, delta in shown:
                runs, others = ({*table.row(name).runs} for name in (row, base))
                yield PublishedDifferences(runs, others, delta)
