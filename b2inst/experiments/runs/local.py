"""Runs as processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from typing import Any, Self

import torch

from b2inst.experiments.runs.environment import child_environment, environment
from b2inst.experiments.runs.launch import Ended
from b2inst.experiments.runs.store import open_run
from b2inst.experiments.runs.worker import STOPPED, reason, redirect_output, work
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

    All are forked from one process that has imported PyTorch, which saves their imports. As with
    all of ``multiprocessing``, a script starts them below ``if __name__ == "__main__":``.

    Raises:
        SpecError: The machine has fewer GPUs than asked for, several machines are asked for, or
            this process is itself one of several.
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
        self._ended: dict[str, str | None] = {}

    def poll(self) -> tuple[Sequence[str], Ended]:
        """Start as many runs as fit; return those that run and those that have ended."""
        while self._queue and self._free:
            label, gpus = self._queue.popleft(), self._free.pop(0)
            self._running[label] = self._start(self._specs[label], gpus), gpus
        wait([process.sentinel for process, _ in self._running.values()], _POLL_SECONDS)
        for label, (process, gpus) in list(self._running.items()):
            if process.is_alive():
                continue
            del self._running[label]
            self._free.append(gpus)
            run, status = open_run(self._workspace.runs, self._specs[label]), process.exitcode
            self._ended[label] = None if status == 0 else reason(run, status, self._workspace)
        return list(self._running), self._ended

    def _start(self, spec: RunSpec, gpus: str | None) -> ForkServerProcess:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        variables = child_environment(threads=self._machine.threads)
        arguments = (spec, self._workspace, self._split, self._machine)
        gpu = {} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}
        process = context.Process(target=_child, args=(work, variables | gpu, *arguments))
        with environment(variables):  # libraries that the fork server loads read their threads then
            process.start()
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
    """Assign GPUs to jobs.

    Args:
        machine: How to use this machine.
        present: Names of its GPUs.

    Returns:
        CUDA_VISIBLE_DEVICES of each job; None for all GPUs.
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
    work: Any,
    variables: Mapping[str, str],
    spec: RunSpec,
    workspace: Workspace,
    split: SplitName,
    machine: Resources,
) -> None:
    os.setsid()  # Ctrl-C in the terminal reaches the parent only, which then stops its children
    redirect_output(open_run(workspace.runs, spec))
    os.environ.update(variables)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    sys.exit(work(spec, workspace, split, machine))


def _stop_with_parent() -> None:
    """Stop this process when its parent has ended, in whatever way."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_SECONDS)
    os._exit(STOPPED)
