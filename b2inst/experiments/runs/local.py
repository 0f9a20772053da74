"""Runs as processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Self

import torch

from b2inst.experiments.runs.environment import child_environment
from b2inst.experiments.runs.progress import COMPLETE, QUEUED, RUNNING
from b2inst.experiments.runs.store import open_run
from b2inst.experiments.runs.worker import STOPPED, reason, work
from b2inst.experiments.specs.data_spec import SplitName
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace
from b2inst.training.devices import World

_POLL_SECONDS = 0.25
#: How long a process may take to stop by itself, with a checkpoint, before it is killed.
_GRACE_SECONDS = 30.0


class LocalJobs:
    """A process for each run, ``machine.jobs`` at a time; with enough GPUs, each has its own.

    All are forked from one process that has imported PyTorch, and so share the time of imports:
    half of it is PyTorch's compiler, without which there is no training. As with all of
    ``multiprocessing``, a script starts them below ``if __name__ == "__main__":``.

    Args:
        specs: Runs by label.
        workspace: Where their files are.
        split: The split to evaluate on.
        machine: How to use this machine.

    Raises:
        SpecError: if several machines, or more GPUs than there are, are asked for; or if this
            process is itself one of several.
    """

    def __init__(
        self,
        specs: Mapping[str, RunSpec],
        workspace: Workspace,
        split: SplitName,
        machine: Resources,
    ) -> None:
        self._free = gpus_of_jobs(machine, _available_gpus(machine))
        self._workspace, self._split, self._machine = workspace, split, machine.settled()
        self._specs = specs
        self._queue = deque(specs)
        self._running: dict[str, tuple[ForkServerProcess, str | None]] = {}
        self._ended: dict[str, str] = {}

    def poll(self) -> dict[str, str]:
        """Start what there is room for; the state of each run, or the reason why it failed."""
        while self._queue and self._free:
            label, gpus = self._queue.popleft(), self._free.pop(0)
            self._running[label] = self._start(self._specs[label], gpus), gpus
        wait([process.sentinel for process, _ in self._running.values()], _POLL_SECONDS)
        for label, (process, gpus) in list(self._running.items()):
            if not process.is_alive():
                del self._running[label]
                self._free.append(gpus)
                run = open_run(self._workspace.runs, self._specs[label])
                failed = process.exitcode != 0
                self._ended[label] = (
                    reason(run, process.exitcode, self._workspace) if failed else COMPLETE
                )
        going_on = dict.fromkeys(self._queue, QUEUED) | dict.fromkeys(self._running, RUNNING)
        return going_on | self._ended

    def _start(self, spec: RunSpec, gpus: str | None) -> ForkServerProcess:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        variables = child_environment(threads=self._machine.threads)
        arguments = (work, variables, gpus, spec, self._workspace, self._split, self._machine)
        process = context.Process(target=_child, args=arguments)
        # Libraries read their number of threads when they are loaded: by the fork server, which
        # starts with its first process.
        before = dict(os.environ)
        os.environ.update(variables)
        try:
            process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        processes = [process for process, _ in self._running.values()]
        for process in processes:
            process.terminate()
        deadline = time.monotonic() + _GRACE_SECONDS
        for process in processes:
            process.join(max(deadline - time.monotonic(), 0.1))
            process.kill()
            process.join()


def gpus_of_jobs(machine: Resources, present: Sequence[str]) -> list[str | None]:
    """What each job is to see of the GPUs (``CUDA_VISIBLE_DEVICES``); None: all of them.

    Args:
        machine: How to use this machine.
        present: Names of the GPUs there are.
    """
    if machine.jobs == 1 or machine.device == "cpu" or not present:
        return [None] * machine.jobs
    groups = max(len(present) // machine.devices, 1)  # with too few, jobs share them
    starts = [job % groups * machine.devices for job in range(machine.jobs)]
    return [",".join(present[start : start + machine.devices]) for start in starts]


def _available_gpus(machine: Resources) -> list[str]:
    if World.from_environment().processes > 1:
        raise SpecError(
            "runs start their own processes: call this once, without torchrun or srun, and with "
            "--devices"
        )
    if machine.machines > 1:
        raise SpecError(
            f"{machine.machines} machines for a run; only --launcher slurm, or your own torchrun "
            "on each of them, can use several"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = map(str, range(torch.cuda.device_count())) if visible is None else visible.split(",")
    gpus = [name for name in names if name]
    if gpus and machine.device != "cpu" and machine.devices > len(gpus):
        raise SpecError(f"{machine.devices} devices per run, but this machine has {len(gpus)} GPUs")
    return gpus


def _child(
    work: Callable[..., int],
    variables: Mapping[str, str],
    gpus: str | None,
    spec: RunSpec,
    workspace: Workspace,
    split: SplitName,
    machine: Resources,
) -> None:
    os.setsid()  # Ctrl-C in the terminal reaches the parent only, which then stops its children
    redirect_output(open_run(workspace.runs, spec).output_path)
    os.environ.update(variables)
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    sys.exit(work(spec, workspace, split, machine))


def redirect_output(path: Path) -> None:
    """Append what this process and its children print to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)


def _stop_with_parent() -> None:
    """Stop this process when its parent is gone, however that ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(STOPPED)
