"""Several runs at a time, here or on a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from b2inst.experiments.runs.progress import COMPLETE, QUEUED, RUNNING, Progress
from b2inst.experiments.specs.data_spec import SplitName
from b2inst.experiments.specs.errors import RunError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace

Launcher = Literal["local", "slurm"]


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
            an array; how many work at a time is for the scheduler to decide.
        complete: Runs that are complete already, which progress counts.
        progress: Show a progress bar.

    Raises:
        SpecError: if ``machine`` asks for what there is not.
        RunError: if some did not complete; names them, why, and where their output is.
        KeyboardInterrupt: after the runs have stopped. Their checkpoints stay.
    """
    if launcher == "slurm":
        from b2inst.experiments.runs.slurm import SlurmJobs as Jobs
    else:
        from b2inst.experiments.runs.local import LocalJobs as Jobs  # type: ignore[assignment]
    with (
        Progress({**complete, **specs}, workspace, enabled=progress, done=complete) as bar,
        Jobs(specs, workspace, split, machine) as jobs,
    ):
        states = jobs.poll()
        while {QUEUED, RUNNING} & set(states.values()):
            bar.show(states)
            states = jobs.poll()
        bar.show(states)
    failures = [f"{label}: {state}" for label, state in states.items() if state != COMPLETE]
    if failures:
        done = len(specs) - len(failures)
        raise RunError(
            f"{len(failures)} of {len(specs)} runs did not complete ({done} did, and are kept): "
            f"{'; '.join(failures)}; rerun to resume from the last checkpoints"
        )
