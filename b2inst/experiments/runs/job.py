"""The work of a process on a run, on one device or on several."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
import uuid
import warnings
from dataclasses import dataclass, replace
from typing import Any

from b2inst.experiments.runs.children import child_environment
from b2inst.experiments.runs.runner import run
from b2inst.experiments.runs.store import Run, open_run
from b2inst.experiments.specs.data_spec import SplitName
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace

#: Exit status of a process that was told to stop, as shells report Ctrl-C.
STOPPED = 130


@dataclass(frozen=True)
class Job:
    """What is to be done of a run, whose data are prepared."""

    spec: RunSpec
    workspace: Workspace
    split: SplitName  #: to evaluate on
    machine: Resources

    @property
    def run(self) -> Run:
        return open_run(self.workspace.runs, self.spec)

    def redirect_output(self) -> None:
        """Append what this process and its children print to the run's output file."""
        self.run.folder.mkdir(parents=True, exist_ok=True)
        with self.run.output_path.open("ab", buffering=0) as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)

    def reason(self, status: int | None) -> str:
        """Say in one line why a process failed, by its exit status and its last output."""
        path = self.run.output_path
        lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
        told = lines and status != STOPPED and (status is None or status > 0)
        return f"{lines[-1] if told else _describe(status)} (see {self.workspace.shown(path)})"


def work(job: Job, *, endpoint: str = "") -> int:
    """Complete a run on the devices of this machine; SIGTERM stops it as Ctrl-C does.

    ``endpoint`` is HOST:PORT of the first machine, if the run has several. Returns the exit status;
    the last line printed says why a run failed.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    warnings.simplefilter("ignore")  # the parent has warned once for all runs
    try:
        if job.machine.devices * job.machine.machines > 1:
            return _on_each_device(job, endpoint)
        run(job.spec, job.workspace, split=job.split, machine=job.machine, progress=False)
    except KeyboardInterrupt:
        return STOPPED
    except Exception as error:
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)  # for torchrun's report
        if not type(error).__module__.startswith("b2inst."):
            traceback.print_exc()
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _on_each_device(job: Job, endpoint: str) -> int:
    """``work`` in a process for each device, started as torchrun does."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    machine = job.machine.settled()
    os.environ.update(child_environment(threads=machine.threads))
    with tempfile.TemporaryDirectory(prefix="b2inst-") as logs:
        config = LaunchConfig(
            min_nodes=machine.machines,
            max_nodes=machine.machines,
            nproc_per_node=machine.devices,
            run_id=endpoint or uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint=endpoint or "localhost:0",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        one = machine.model_copy(update={"devices": 1, "machines": 1})
        try:
            elastic_launch(config, _exit_with)(replace(job, machine=one))
        except SignalException:
            return STOPPED
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            if failure.exitcode == STOPPED:
                return STOPPED
            told: Any = failure.message  # a dictionary, if the process has recorded its exception
            recorded = isinstance(told, dict)
            why = f"failed: {told['message']}" if recorded else _describe(failure.exitcode)
            name = f"process {rank + 1} of {machine.devices * machine.machines}"
            print(f"{name} {why}", file=sys.stderr)  # noqa: T201
            return 1
    return 0


def _exit_with(job: Job) -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # by which Slurm tells the job, not its children
    if status := work(job):
        sys.exit(status)


def _describe(status: int | None) -> str:
    """Say how a process ended that printed nothing."""
    if status == -signal.SIGKILL:
        return "was killed by the system, most likely because memory ran out; try --jobs 1"
    if status is not None and status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return "was stopped" if status == STOPPED else f"ended with exit status {status or 'unknown'}"
