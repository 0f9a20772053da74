"""Several runs at a time, here or on a cluster, with one progress bar."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Literal

import torch
from tqdm import tqdm

from b2inst.data.wording import counted
from b2inst.experiments.runs.children import child_environment, start_fork_server
from b2inst.experiments.runs.job import STOPPED, Job, work
from b2inst.experiments.runs.store import RunStatus, open_run
from b2inst.experiments.specs.data_spec import SplitName
from b2inst.experiments.specs.errors import RunError, SpecError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace
from b2inst.training.devices import World

Launcher = Literal["local", "slurm"]

#: Why each run that has ended failed; None if it is complete.
Ended = Mapping[str, str | None]

_POLL_SECONDS = 0.25
#: How long a process may take to stop by itself, with a checkpoint, before it is killed.
_GRACE_SECONDS = 30.0


def run_all(
    specs: Mapping[str, RunSpec],
    workspace: Workspace,
    *,
    split: SplitName,
    machine: Resources,
    launcher: Launcher = "local",
    complete: Mapping[str, RunSpec] | None = None,
) -> None:
    """Complete runs, by the labels that progress and errors name them by, on prepared data.

    One that fails does not stop the others. Progress also counts runs that are ``complete``.

    Raises:
        SpecError: The machine does not have what ``machine`` asks for.
        RunError: Some runs did not complete; says which, why, and where their output is.
        KeyboardInterrupt: Raised after the runs have stopped. Their checkpoints stay.
    """
    start: Any = local_jobs
    if launcher == "slurm":
        from b2inst.experiments.runs.slurm import slurm_jobs as start
    bar = Progress(specs, workspace, complete=complete or {})
    jobs = {label: Job(spec, workspace, split, machine) for label, spec in specs.items()}
    ended: Ended = {}
    with bar, closing(start(jobs, machine)) as states:
        try:
            for running, ended in states:
                bar.show(running, ended)
        except KeyboardInterrupt:  # which may have come while the bar was drawn
            states.throw(KeyboardInterrupt)
    if failures := [f"{label}: {why}" for label, why in ended.items() if why is not None]:
        done = len(specs) - len(failures)
        raise RunError(
            f"{len(failures)} of {len(specs)} runs did not complete ({done} did, and are kept): "
            f"{'; '.join(failures)}; rerun to resume from the last checkpoints"
        )


class Progress(tqdm):
    """A bar over the iterations of all runs, of which each counts ten, and their evaluations."""

    def __init__(
        self, specs: Mapping[str, RunSpec], workspace: Workspace, *, complete: Mapping[str, RunSpec]
    ) -> None:
        every = {**complete, **specs}
        self._runs = {label: open_run(workspace.runs, spec) for label, spec in every.items()}
        self._totals = {label: spec.schedule.iterations for label, spec in every.items()}
        self._complete = set(complete)
        self.initial = self._so_far()
        super().__init__(
            total=11 * sum(self._totals.values()),
            initial=self.initial,
            desc="starting: importing PyTorch",
            mininterval=0.5 if sys.stderr.isatty() else 15.0,
            miniters=0,
            smoothing=0,  # what remains is estimated from all that was done since the start
            bar_format="{percentage:3.0f}% |{bar:20}| {elapsed} < {remaining}  {desc}",
        )

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
        self.set_description_str(", ".join(said), refresh=False)
        done = self._so_far()
        self.initial = min(self.initial, done)  # a run that was killed resumes before its last line
        self.update(done - self.n)

    def _so_far(self) -> int:
        evaluated = sum(self._totals[label] for label in self._complete)
        return 10 * sum(map(self._iterations, self._runs)) + evaluated

    def _iterations(self, label: str) -> int:
        run, total = self._runs[label], self._totals[label]
        trained = run.status is RunStatus.TRAINED
        return total if trained else min(last_iteration(run.log_path), total)


def last_iteration(log: Path) -> int:
    """Return the iteration of the last whole line of a training log; 0 without one."""
    if not log.is_file():
        return 0
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - 4096, 0))
        found = re.findall(rb'^{"iteration": (\d+)\b.', file.read(), re.MULTILINE)
    return int(found[-1]) if found else 0


def local_jobs(jobs: Mapping[str, Job], machine: Resources) -> Iterator[tuple[list[str], Ended]]:
    """Start a process for each run, ``machine.jobs`` at a time; with enough GPUs, each has its own.

    A script calls this below ``if __name__ == "__main__":``, as all of ``multiprocessing``. Yields
    the runs that run and those that have ended, until all have.
    """
    free = gpus_of_jobs(machine, _available_gpus(machine))
    variables = child_environment(threads=machine.settled().threads)
    context, queue = multiprocessing.get_context("forkserver"), deque(jobs)
    running: dict[str, tuple[ForkServerProcess, str | None]] = {}
    ended: dict[str, str | None] = {}
    start_fork_server(machine)
    try:
        while queue or running:
            while queue and free:
                label, gpus = queue.popleft(), free.pop(0)
                gpu = {} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}
                process = context.Process(target=_child, args=(work, jobs[label], variables | gpu))
                process.start()
                running[label] = process, gpus
            wait([process.sentinel for process, _ in running.values()], _POLL_SECONDS)
            for label, (process, gpus) in list(running.items()):
                if not process.is_alive():
                    del running[label]
                    free.append(gpus)
                    status = process.exitcode
                    ended[label] = None if status == 0 else jobs[label].reason(status)
            yield list(running), ended
    finally:
        for process, _ in running.values():
            process.terminate()
        deadline = time.monotonic() + _GRACE_SECONDS
        for process, _ in running.values():
            process.join(max(deadline - time.monotonic(), 0.1))
            process.kill()
            process.join()


def gpus_of_jobs(machine: Resources, present: Sequence[str]) -> list[str | None]:
    """Return CUDA_VISIBLE_DEVICES of each job, of the GPUs that are present; None for all."""
    if machine.jobs == 1 or machine.device == "cpu" or not present:
        return [None] * machine.jobs
    groups = max(len(present) // machine.devices, 1)  # with too few, jobs share them
    starts = [job % groups * machine.devices for job in range(machine.jobs)]
    return [",".join(present[start : start + machine.devices]) for start in starts]


def _available_gpus(machine: Resources) -> list[str]:
    if World.from_environment().processes > 1:
        raise SpecError("runs start their own processes; call this without torchrun or srun")
    if machine.machines > 1:
        raise SpecError(
            f"{machine.machines} machines for a run; only --launcher slurm, or your own torchrun "
            "on each of them, can use several"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = map(str, range(torch.cuda.device_count())) if visible is None else visible.split(",")
    gpus = [name for name in names if name]
    if gpus and machine.device != "cpu" and machine.devices > len(gpus):
        here = counted(len(gpus), "GPU")
        raise SpecError(f"{machine.devices} devices per run, but this machine has {here}")
    return gpus


def _child(work: Callable[[Job], int], job: Job, variables: Mapping[str, str]) -> None:
    os.setsid()  # Ctrl-C in the terminal reaches the parent only, which then stops its children
    job.redirect_output()
    os.environ.update(variables)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    sys.exit(work(job))


def _stop_with_parent() -> None:
    """Stop this process when its parent has ended, in whatever way."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(STOPPED)
