"""How far runs are that work elsewhere, from what their logs say."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from tqdm import tqdm

from b2inst.experiments.runs.store import RunStatus, open_run
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace

#: What a run's evaluation counts as, in shares of its training.
_EVALUATION = 0.1


class Progress:
    """One bar over all runs, each its iterations and then its evaluation.

    Runs that are complete or begun already count from the start, and the time left is judged by
    what is done from then on.

    Args:
        specs: by the label that progress names them by.
        done: those of them that are complete.
    """

    def __init__(
        self,
        specs: Mapping[str, RunSpec],
        workspace: Workspace,
        *,
        enabled: bool,
        done: Collection[str] = (),
    ) -> None:
        self._done = set(done)
        self._runs = {label: open_run(workspace.runs, spec) for label, spec in specs.items()}
        self._totals = {label: spec.schedule.iterations for label, spec in specs.items()}
        self._bar = tqdm(
            total=sum(map(self._whole, specs)),
            initial=sum(map(self._so_far, specs)),
            unit="it",
            disable=not enabled or not specs,
            mininterval=0.5 if sys.stderr.isatty() else 15.0,
            bar_format="{percentage:3.0f}% |{bar:20}| {elapsed} < {remaining}  {desc}",
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(
        self, working: Collection[str], *, queued: int = 0, finished: Collection[str] = ()
    ) -> None:
        """Update the bar.

        Args:
            working: runs in process; others may be in a queue.
            finished: runs that have ended.
        """
        self._done.update(finished)
        said = [f"{len(self._done)} of {len(self._runs)} runs complete"]
        said += [*map(self._describe, working), *([f"{queued} in the queue"] if queued else [])]
        self._bar.set_description_str(", ".join(said), refresh=False)
        self._bar.update(sum(map(self._so_far, self._runs)) - self._bar.n)

    def _describe(self, label: str) -> str:
        run = self._runs[label]
        if run.status is RunStatus.TRAINED:
            return f"{label} evaluating"
        return f"{label} {self._iterations(label)}/{self._totals[label]}"

    def _whole(self, label: str) -> float:
        return self._totals[label] * (1 + _EVALUATION)

    def _so_far(self, label: str) -> float:
        return self._whole(label) if label in self._done else self._iterations(label)

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
