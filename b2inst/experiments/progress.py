"""How far runs are that work elsewhere, from what their logs say."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from b2inst.experiments.run_spec import RunSpec
from b2inst.experiments.store import RunStatus, open_run
from b2inst.experiments.workspace import Workspace


class Progress:
    """One bar over the iterations of all runs."""

    def __init__(
        self, specs: Mapping[str, RunSpec], workspace: Workspace, *, enabled: bool
    ) -> None:
        self._runs = {label: open_run(workspace.runs, spec) for label, spec in specs.items()}
        self._totals = {label: spec.schedule.iterations for label, spec in specs.items()}
        start = sum(self._iterations(label) for label in specs)
        self._bar = tqdm(
            total=sum(self._totals.values()),
            initial=start,
            unit="it",
            disable=not enabled or not specs,
            mininterval=0.5 if sys.stderr.isatty() else 15.0,
            bar_format="{percentage:3.0f}% |{bar:20}| {elapsed} < {remaining}  {desc}",
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, working: list[str], *, queued: int = 0) -> None:
        """Update the bar; ``working`` are the runs in process, others may be in a queue."""
        said = [*map(self._describe, working), *([f"{queued} in the queue"] if queued else [])]
        self._bar.set_description_str(", ".join(said), refresh=False)
        self._bar.update(sum(map(self._iterations, self._runs)) - self._bar.n)

    def _describe(self, label: str) -> str:
        run = self._runs[label]
        if run.status is RunStatus.TRAINED:
            return f"{label} evaluating"
        return f"{label} {self._iterations(label)}/{self._totals[label]}"

    def _iterations(self, label: str) -> int:
        run = self._runs[label]
        if run.status is RunStatus.TRAINED:
            return self._totals[label]
        return min(last_iteration(run.log_path), self._totals[label])


def last_iteration(log: Path) -> int:
    """Iteration of the last whole line of a training log; 0 without one."""
    if not log.is_file():
        return 0
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - 4096, 0))
        lines = file.read().splitlines()
    for line in reversed(lines):
        try:
            return int(json.loads(line)["iteration"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0
