"""One run, on one device or on several, as the work of a process."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
import uuid
import warnings
from typing import Any

import lightning.fabric  # noqa: F401 - training needs it; here, processes that are forked share it

from b2inst.experiments.runs.environment import child_environment
from b2inst.experiments.runs.runner import run
from b2inst.experiments.runs.store import Run
from b2inst.experiments.specs.data_spec import SplitName
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace

#: Exit status of a process that was told to stop, as shells report Ctrl-C.
STOPPED = 130


def work(
    spec: RunSpec,
    workspace: Workspace,
    split: SplitName | None,
    machine: Resources,
    *,
    endpoint: str = "",
) -> int:
    """Complete a run on the devices of this machine; SIGTERM stops it as Ctrl-C does.

    Args:
        spec: The run; its data are prepared.
        workspace: Where its files are.
        split: The split to evaluate on (default: the one that is reported on).
        machine: How to use this machine.
        endpoint: HOST:PORT of the first machine, if the run has several.

    Returns:
        The exit status. The last line printed says why a run failed.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    warnings.simplefilter("ignore")  # the parent has warned once for all runs
    try:
        if machine.devices * machine.machines > 1:
            return _on_each_device(spec, workspace, split, machine.settled(), endpoint)
        run(spec, workspace, split=split, machine=machine, progress=False)
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


def _on_each_device(
    spec: RunSpec, workspace: Workspace, split: SplitName | None, machine: Resources, endpoint: str
) -> int:
    """``work`` in a process for each device, started as torchrun does."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

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
            elastic_launch(config, _exit_with)(spec, workspace, split, one)
        except SignalException:
            return STOPPED
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            if failure.exitcode == STOPPED:
                return STOPPED
            told = failure.error_file_data["message"]
            why = f"failed: {told['message']}" if isinstance(told, dict) else None
            name = f"process {rank + 1} of {machine.devices * machine.machines}"
            print(f"{name} {why or _death(failure.exitcode)}", file=sys.stderr)  # noqa: T201
            return 1
    return 0


def _exit_with(*arguments: Any) -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # by which Slurm tells the job, not its children
    if status := work(*arguments):
        sys.exit(status)


def redirect_output(run: Run) -> None:
    """Append what this process and its children print to the run's output file."""
    run.folder.mkdir(parents=True, exist_ok=True)
    with run.output_path.open("ab", buffering=0) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)


def reason(run: Run, status: int | None, workspace: Workspace) -> str:
    """Say in one line why the process of a run failed, by its exit status and its last output."""
    path = run.output_path
    lines = path.read_text(errors="replace").strip().splitlines() if path.is_file() else []
    if status == STOPPED:
        why = "was stopped"
    elif status is not None and (status < 0 or not lines):
        why = _death(status)
    else:
        why = lines[-1] if lines else "ended without a word"
    return f"{why} (see {workspace.shown(path)})"


def _death(status: int) -> str:
    if status == -signal.SIGKILL:
        return "was killed by the system, most likely because memory ran out; try --jobs 1"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"
