"""Several runs at a time, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from b2inst.experiments.data_spec import SplitName
from b2inst.experiments.errors import SpecError
from b2inst.experiments.orders import failed, failure, on_devices, order
from b2inst.experiments.processes import child_environment
from b2inst.experiments.progress import Progress
from b2inst.experiments.resources import Resources
from b2inst.experiments.run_spec import RunSpec
from b2inst.experiments.store import Run, open_run
from b2inst.experiments.workspace import Workspace
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
    progress: bool = True,
) -> None:
    """Complete runs, ``machine.jobs`` at a time; one that fails does not stop the others.

    Each is a fresh Python process (one for each device) rather than a fork or a thread: its thread
    count is settled before PyTorch loads, its memory is its own, and it can be ended. With GPUs
    enough, each has its own.

    Args:
        specs: by the label that progress and errors name them by; data prepared.

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
    places = deque(gpus_of_jobs(machine, gpus_here))
    working: list[_Process] = []
    failures: list[str] = []
    with Progress(specs, workspace, enabled=progress) as bar:
        try:
            while waiting or working:
                while waiting and len(working) < machine.jobs:
                    label, spec = waiting.popleft()
                    gpus = places.popleft()
                    working.append(_start(label, spec, workspace, split, machine, gpus))
                time.sleep(_POLL_SECONDS)
                bar.show([process.label for process in working])
                for process in [p for p in working if p.popen.poll() is not None]:
                    working.remove(process)
                    places.append(process.gpus)
                    status = process.popen.returncode
                    if status != 0:
                        failures.append(failure(process.label, process.run, status, workspace))
        finally:
            _stop(working)
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


@dataclass
class _Process:
    label: str
    run: Run
    popen: subprocess.Popen[bytes]
    gpus: str | None


def _start(
    label: str,
    spec: RunSpec,
    workspace: Workspace,
    split: SplitName,
    machine: Resources,
    gpus: str | None,
) -> _Process:
    run = open_run(workspace.runs, spec)
    worker = order(spec, workspace, split, machine)
    environment = child_environment(threads=machine.threads)
    if gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpus
    with run.output_path.open("ab") as output:
        popen = subprocess.Popen(
            [sys.executable, *on_devices(worker, machine)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            # Ctrl-C in the terminal reaches this process only, which then stops the others.
            start_new_session=True,
        )
    return _Process(label, run, popen, gpus)


def _stop(processes: list[_Process]) -> None:
    for process in processes:
        if process.popen.stdin is not None:
            process.popen.stdin.close()
    deadline = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        try:
            process.popen.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            process.popen.kill()
            process.popen.wait()
