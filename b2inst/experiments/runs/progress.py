"""How far runs of other processes are, by what their logs say."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from tqdm import tqdm

from b2inst.experiments.runs.store import RunStatus, open_run
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace

#: What the evaluation of a run counts, as a share of its training.
_EVALUATION = 0.1

QUEUED, RUNNING, COMPLETE = "queued", "running", "complete"


class Progress:
    """One bar over all runs: the iterations of each, then its evaluation.

    What was done before counts from the start, and the time left is estimated by what is done from
    then on.

    Args:
        specs: Runs by the label that progress names them by.
        workspace: Where their files are.
        enabled: Show the bar.
        done: Labels of the runs that are complete.
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
            total=sum(self._totals.values()) * (1 + _EVALUATION),
            initial=sum(map(self._so_far, specs)),
            unit="it",
            desc="starting: importing PyTorch",
            disable=not enabled or not specs,
            mininterval=0.5 if sys.stderr.isatty() else 15.0,
            bar_format="{percentage:3.0f}% |{bar:20}| {elapsed} < {remaining}  {desc}",
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, states: Mapping[str, str]) -> None:
        """Update the bar.

        Args:
            states: ``QUEUED``, ``RUNNING``, ``COMPLETE`` or the reason of a failure, by label.
        """
        counts = Counter(states.values())
        failed = counts.total() - counts[QUEUED] - counts[RUNNING] - counts[COMPLETE]
        self._done |= {label for label, state in states.items() if state not in (QUEUED, RUNNING)}
        said = [f"{len(self._done) - failed} of {len(self._runs)} runs complete"]
        for label in [label for label, state in states.items() if state == RUNNING]:
            done, total = self._iterations(label), self._totals[label]
            step = {0: "preparing", total: "evaluating"}.get(done, f"{done}/{total}")
            said.append(f"{label} {step}")
        others = {"failed": failed, "in the queue": counts[QUEUED]}
        said += [f"{number} {state}" for state, number in others.items() if number]
        self._bar.set_description_str(", ".join(said), refresh=False)
        self._bar.update(sum(map(self._so_far, self._runs)) - self._bar.n)

    def _so_far(self, label: str) -> float:
        if label in self._done:
            return self._totals[label] * (1 + _EVALUATION)
        return self._iterations(label)

    def _iterations(self, label: str) -> int:
        run, total = self._runs[label], self._totals[label]
        if run.status is RunStatus.TRAINED:
            return total
        return min(last_iteration(run.log_path), total)


def last_iteration(log: Path) -> int:
    """Iteration of the last line of a training log; 0 without one."""
    if not log.is_file():
        return 0
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - 4096, 0))
        found = re.findall(rb'^{"iteration": (\d+)\b.', file.read(), re.MULTILINE)
    return int(found[-1]) if found else 0
