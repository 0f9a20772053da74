"""Several runs at a time, each in a process of its own."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType

import torch

from b2inst.experiments.runs.orders import failed, failure, on_devices, order
from b2inst.experiments.runs.processes import child_environment
from b2inst.experiments.runs.progress import Progress
from b2inst.experiments.runs.store import Run, open_run
from b2inst.experiments.specs.data_spec import SplitName
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace
from b2inst.training.devices import Place

_POLL_SECONDS = 0.25
#: How long a process may take to stop by itself before it is ended.
_GRACE_SECONDS = 15.0


def run_all(
    specs: Mapping[str, RunSpec],
    workspace: Workspace,
    *,
    split: SplitName,
    machine: Resources,
    complete: Mapping[str, RunSpec] = MappingProxyType({}),
    progress: bool = True,
) -> None:
    """Complete runs, ``machine.jobs`` at a time; one that fails does not stop the others.

    There are ``jobs`` Python processes that import PyTorch, each after its thread count is settled,
    and do nothing but fork a process for each run (which starts one for each device, if they are
    several): its memory is its own, and it can be ended. With GPUs enough, each job has its own.

    Args:
        specs: by the label that progress and errors name them by; data prepared.
        complete: runs that there are already, which progress counts.

    Raises:
        SpecError: several machines, or more GPUs than there are, are asked for; or this process
            is itself one of several.
        RunError: some did not complete; names them, why, and where their output is.
        KeyboardInterrupt: after the processes have stopped. Their checkpoints stay.
    """
    if Place.of_this_process().processes > 1:
        raise SpecError(
            "runs start processes of their own: call this once, without torchrun or srun, and say "
            "--devices"
        )
    if machine.machines > 1:
        raise SpecError(
            f"{machine.machines} machines for a run; only --launcher slurm, or your own torchrun "
            "on each of them, can use several"
        )
    waiting = deque((label, spec) for label, spec in specs.items())
    gpus_here = _gpus_here()
    if gpus_here and machine.device != "cpu" and machine.devices > len(gpus_here):
        raise SpecError(f"{machine.devices} devices for a run; here are {len(gpus_here)} GPUs")
    idle = [_Worker(machine, gpus) for gpus in gpus_of_jobs(machine, gpus_here)]
    working: dict[_Worker, tuple[str, Run]] = {}
    failures: list[str] = []
    finished: list[str] = []
    every = {**complete, **specs}
    with Progress(every, workspace, enabled=progress, done=complete) as bar:
        try:
            while waiting or working:
                while waiting and idle:
                    label, spec = waiting.popleft()
                    run, worker = open_run(workspace.runs, spec), idle.pop(0)
                    worker.begin(order(spec, workspace, split, machine), run)
                    working[worker] = label, run
                time.sleep(_POLL_SECONDS)
                bar.show([label for label, _ in working.values()], finished=finished)
                for worker in list(working):
                    status = worker.status()
                    if status is not None:
                        label, run = working.pop(worker)
                        idle.append(worker)
                        if status == 0:
                            finished.append(label)
                        else:
                            failures.append(failure(label, run, status, workspace))
        finally:
            _stop([*idle, *working])
    if failures:
        raise failed(failures, len(specs))


def gpus_of_jobs(machine: Resources, present: Sequence[str]) -> list[str | None]:
    """What each job is to see of the GPUs (``CUDA_VISIBLE_DEVICES``); None: all of them.

    Args:
        present: names of the GPUs there are.
    """
    if machine.jobs == 1 or machine.device == "cpu" or not present:
        return [None] * machine.jobs
    groups = max(len(present) // machine.devices, 1)  # with too few, jobs share them
    starts = [job % groups * machine.devices for job in range(machine.jobs)]
    return [",".join(present[start : start + machine.devices]) for start in starts]


def _gpus_here() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name]
    return [str(i) for i in range(torch.cuda.device_count())]


class _Worker:
    """A process that takes one run after another (see ``forked``)."""

    def __init__(self, machine: Resources, gpus: str | None) -> None:
        self._machine = machine
        self._environment = child_environment(threads=machine.threads)
        if gpus is not None:
            self._environment["CUDA_VISIBLE_DEVICES"] = gpus
        self.popen: subprocess.Popen[bytes] | None = None

    def begin(self, worker: Sequence[str], run: Run) -> None:
        """Start a run; a process that has died is replaced.

        Args:
            worker: what ``order`` returned.
        """
        if self.popen is None or self.popen.poll() is not None:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "b2inst.experiments.runs.forked"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env=self._environment,
                # Ctrl-C in the terminal reaches this process only, which then stops the others.
                start_new_session=True,
            )
        _, *command = on_devices(worker, self._machine)  # without -m
        assert self.popen.stdin is not None
        self.popen.stdin.write(f"{json.dumps([str(run.output_path), *command])}\n".encode())

    def status(self) -> int | None:
        """Exit status of the run; None while it goes on."""
        assert self.popen is not None
        assert self.popen.stdout is not None
        if not select.select([self.popen.stdout], [], [], 0)[0]:
            return None
        line = self.popen.stdout.readline()
        return int(line) if line else self.popen.wait()  # it has died itself


def _stop(workers: Sequence[_Worker]) -> None:
    processes = [worker.popen for worker in workers if worker.popen is not None]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        try:
            process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with the run that it has forked
            process.wait()
        assert process.stdout is not None
        process.stdout.close()
