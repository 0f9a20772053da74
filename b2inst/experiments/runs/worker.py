"""The work of a process on a run, on one device or on several."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
import uuid
import warnings
from dataclasses import replace
from typing import Any

from b2inst.experiments.runs.job import STOPPED, Job, child_environment, describe_exit
from b2inst.experiments.runs.runner import run


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
            why = f"failed: {told['message']}" if isinstance(told, dict) else None
            name = f"process {rank + 1} of {machine.devices * machine.machines}"
            print(f"{name} {why or describe_exit(failure.exitcode)}", file=sys.stderr)  # noqa: T201
            return 1
    return 0


def _exit_with(job: Job) -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # by which Slurm tells the job, not its children
    if status := work(job):
        sys.exit(status)
