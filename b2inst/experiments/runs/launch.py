"""Several runs at a time, here or on a cluster, with one progress bar."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from tqdm import tqdm

from b2inst.experiments.runs.store import RunStatus, open_run
from b2inst.experiments.specs.data_spec import SplitName
from b2inst.experiments.specs.errors import RunError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace

Launcher = Literal["local", "slurm"]

#: Why each run that has ended failed; None if it is complete.
Ended = Mapping[str, str | None]


def run_all(
    specs: Mapping[str, RunSpec],
    workspace: Workspace,
    *,
    split: SplitName,
    machine: Resources,
    launcher: Launcher = "local",
    complete: Mapping[str, RunSpec] = MappingProxyType({}),
    progress: bool = True,
) -> None:
    """Complete runs; one that fails does not stop the others.

    Args:
        specs: Runs by the label that progress and errors name them by; their data are prepared.
        workspace: Where their files are; of a cluster, in a file system that it shares.
        split: The split to evaluate on.
        machine: How to use a machine.
        launcher: "local": ``machine.jobs`` processes at a time on this machine. "slurm": jobs of
            an array; the scheduler decides how many run at a time.
        complete: Runs that are complete already, which progress counts.
        progress: Show a progress bar.

    Raises:
        SpecError: The machine does not have what ``machine`` asks for.
        RunError: Some runs did not complete; says which, why, and where their output is.
        KeyboardInterrupt: Raised after the runs have stopped. Their checkpoints stay.
    """
    if launcher == "slurm":
        from b2inst.experiments.runs.slurm import SlurmJobs as Jobs
    else:
        from b2inst.experiments.runs.local import LocalJobs as Jobs  # type: ignore[assignment]
    bar = Progress(specs, workspace, complete=complete, enabled=progress)
    with bar, Jobs(specs, workspace, split, machine) as jobs:
        ended: Ended = {}
        while len(ended) < len(specs):
            running, ended = jobs.poll()
            bar.show(running, ended)
    failures = [f"{label}: {why}" for label, why in ended.items() if why is not None]
    if failures:
        done = len(specs) - len(failures)
        raise RunError(
            f"{len(failures)} of {len(specs)} runs did not complete ({done} did, and are kept): "
            f"{'; '.join(failures)}; rerun to resume from the last checkpoints"
        )


#: What the evaluation of a run counts in the bar, as a share of its training.
_EVALUATION = 0.1


class Progress:
    """A bar over all runs, read from their logs: the iterations of each, then its evaluation."""

    def __init__(
        self,
        specs: Mapping[str, RunSpec],
        workspace: Workspace,
        *,
        complete: Mapping[str, RunSpec] = MappingProxyType({}),
        enabled: bool = True,
    ) -> None:
        every = {**complete, **specs}
        self._runs = {label: open_run(workspace.runs, spec) for label, spec in every.items()}
        self._totals = {label: spec.schedule.iterations for label, spec in every.items()}
        self._complete = set(complete)
        self._bar = tqdm(
            total=sum(self._totals.values()) * (1 + _EVALUATION),
            initial=sum(map(self._so_far, every)),
            unit="it",
            desc="starting: importing PyTorch",
            disable=not enabled or not every,
            mininterval=0.5 if sys.stderr.isatty() else 15.0,
            bar_format="{percentage:3.0f}% |{bar:20}| {elapsed} < {remaining}  {desc}",
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, running: Sequence[str], ended: Ended) -> None:
        """Update the bar; runs that neither run nor have ended are in the queue."""
        failed = sum(why is not None for why in ended.values())
        self._complete |= {label for label, why in ended.items() if why is None}
        queued = len(self._runs) - len(self._complete) - failed - len(running)
        said = [f"{len(self._complete)} of {len(self._runs)} runs complete"]
        for label in running:
            done, total = self._iterations(label), self._totals[label]
            step = {0: "preparing", total: "evaluating"}.get(done, f"{done}/{total}")
            said.append(f"{label} {step}")
        said += [f"{failed} failed"] * bool(failed) + [f"{queued} in the queue"] * bool(queued)
        self._bar.set_description_str(", ".join(said), refresh=False)
        self._bar.update(sum(map(self._so_far, self._runs)) - self._bar.n)

    def _so_far(self, label: str) -> float:
        if label in self._complete:
            return self._totals[label] * (1 + _EVALUATION)
        return self._iterations(label)

    def _iterations(self, label: str) -> int:
        run, total = self._runs[label], self._totals[label]
        return (
            total if run.status is RunStatus.TRAINED else min(last_iteration(run.log_path), total)
        )


def last_iteration(log: Path) -> int:
    """Iteration of the last whole line of a training log; 0 without one."""
    if not log.is_file():
        return 0
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - 4096, 0))
        found = re.findall(rb'^{"iteration": (\d+)\b.', file.read(), re.MULTILINE)
    return int(found[-1]) if found else 0
