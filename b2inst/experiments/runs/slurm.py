"""Runs as jobs of an array on a Slurm cluster, by submitit."""

from __future__ import annotations

import getpass
import os
import shlex
import signal
import subprocess
import time
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from b2inst.experiments.runs.children import child_environment
from b2inst.experiments.runs.job import STOPPED, Job, work
from b2inst.experiments.runs.launch import Ended
from b2inst.experiments.runs.runner import is_complete
from b2inst.experiments.runs.store import Run, read_json, write_json
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.workspace import Workspace

try:
    import submitit
except ModuleNotFoundError:
    raise SpecError(
        "--launcher slurm needs submitit; install it with: pip install 'b2inst[cluster]'"
    ) from None

_CLUSTER = "slurm"  # submitit's "debug" is for tests
_POLL_SECONDS = 5.0
#: How long what a job wrote last may take to be seen through a shared file system.
_SETTLE_SECONDS = 15
#: How long a job that is told to stop may take to write its checkpoint.
_GRACE_SECONDS = 80
#: sbatch's options that are not the user's to set.
_OURS = ("array", "error", "output", "signal", "nodes", "ntasks_per_node")


@dataclass(frozen=True)
class SlurmJob(Job, submitit.helpers.Checkpointable):
    """What a job does on each of its machines."""

    def __call__(self) -> int:
        """Work until the run is complete, or a signal stops it; returns the exit status.

        When its time is up, Slurm sends SIGUSR2, by which submitit queues the job again. To make
        room, Slurm sends SIGTERM first. So does Ctrl-C of the command, with ``stop_file``.
        """
        requeue: Any = signal.getsignal(signal.SIGUSR2)  # submitit's, which exits
        process, time_is_up = os.getpid(), False

        def stop(number: int, _: object) -> None:
            nonlocal time_is_up
            if os.getpid() == process:  # Slurm signals those that load data, too
                time_is_up = True
                signal.raise_signal(signal.SIGTERM)

        signal.signal(signal.SIGUSR2, stop)
        self.redirect_output()
        endpoint = ""
        if self.machine.machines > 1:
            here = submitit.JobEnvironment()
            endpoint = f"{here.hostnames[0]}:{20000 + int(here.raw_job_id) % 10000}"
        status = work(self, endpoint=endpoint)
        signal.signal(signal.SIGUSR2, requeue)
        if time_is_up:
            requeue(signal.SIGUSR2, None)
        elif status == STOPPED and not stop_file(self.run).exists():
            time.sleep(_GRACE_SECONDS)  # until SIGUSR2 comes
        return status


def slurm_jobs(jobs: Mapping[str, Job], machine: Resources) -> Iterator[tuple[list[str], Ended]]:
    """Submit a job for each run; they go on if this process ends other than by Ctrl-C.

    Jobs that an earlier call has submitted are waited for instead of being submitted again. Yields
    the runs that run and those that have ended, until all have.
    """
    executor = _executor(next(iter(jobs.values())).workspace, machine)
    earlier: dict[str, Any] = {
        label: submitit.SlurmJob(executor.folder, read_json(_job_path(job.run))["job"])
        for label, job in jobs.items()
        if _CLUSTER == "slurm" and _job_path(job.run).is_file()
    }
    states = _states(earlier.values())
    left = {label: job for label, job in earlier.items() if job.job_id in states}
    if new := {label: job for label, job in jobs.items() if label not in left}:
        left |= _submitted(new, executor)
    ended: dict[str, str | None] = {}
    try:
        while left:
            time.sleep(_POLL_SECONDS)
            states = _states(left.values())
            for label, job in list(left.items()):
                if job.job_id not in states:
                    ended[label] = _outcome(jobs[label], left.pop(label))
            yield [label for label, job in left.items() if states[job.job_id]], ended
    except KeyboardInterrupt:
        for label in left:
            stop_file(jobs[label].run).touch()
        for what in ("--state=PENDING", "--signal=TERM"):
            _scancel(what, *(job.job_id for job in left.values()))
        deadline = time.monotonic() + _GRACE_SECONDS
        while _states(left.values()) and time.monotonic() < deadline:
            time.sleep(1)
        _scancel(*_states(left.values()))
        raise


def _submitted(new: Mapping[str, Job], executor: submitit.AutoExecutor) -> dict[str, Any]:
    """Submit an array of jobs, which are found again by a file in the folder of each run."""
    for job in new.values():
        stop_file(job.run).unlink(missing_ok=True)
    executor.update_parameters(slurm_array_parallelism=len(new))
    try:
        submitted = executor.submit_array([SlurmJob(**vars(job)) for job in new.values()])
    except submitit.core.utils.FailedJobError as error:
        said = " ".join(str(error).split())
        raise SpecError(f"sbatch rejected the jobs: {said}") from None
    for job, found in zip(new.values(), submitted, strict=True):
        write_json(_job_path(job.run), {"job": found.job_id})
    return dict(zip(new, submitted, strict=True))


def _outcome(job: Job, submitted: Any) -> str | None:
    """Why the run of a job that has ended failed, as ``Ended`` has it."""
    for _ in range(_SETTLE_SECONDS + 1):
        if is_complete(job.run, job.spec, job.split):
            return None
        time.sleep(_SETTLE_SECONDS > 0)
    output, since = job.run.output_path, _job_path(job.run).stat().st_mtime
    if output.is_file() and output.stat().st_mtime >= since:
        return job.reason(None)
    return f"job {submitted.job_id} ended without output (see {submitted.paths.stderr})"


def sbatch_options(machine: Resources) -> dict[str, Any]:
    """Return options of sbatch by their long names with underscores, the user's and ours."""
    given = {name.replace("-", "_"): value for name, value in machine.slurm.items()}
    if taken := sorted(set(given) & set(_OURS)):
        raise SpecError(
            f"slurm: {taken[0]} is set by b2inst; give partition, time, mem and such, and "
            "machines and devices on their own"
        )
    cpus = machine.devices * (max(machine.threads or 1, 1) + machine.workers)
    derived: dict[str, Any] = {"time": "1-00:00:00", "cpus_per_task": cpus}
    asked = any(name.startswith(("gres", "tres", "gpus")) for name in given)
    if machine.device != "cpu" and not asked:
        if machine.device.startswith("cuda") or machine.devices > 1:
            derived["gpus_per_node"] = machine.devices
        else:
            warnings.warn("jobs get no GPU; request one with --device cuda", stacklevel=2)
    return derived | given


def _executor(workspace: Workspace, machine: Resources) -> submitit.AutoExecutor:
    options = sbatch_options(machine)
    folder, requeues = workspace.runs / ".jobs" / "%j", 1000  # of a job that is out of time
    try:
        executor = submitit.AutoExecutor(folder, _CLUSTER, slurm_max_num_timeout=requeues)
    except RuntimeError as error:
        raise SpecError(f"--launcher slurm: {error}") from None
    variables = child_environment(threads=machine.threads)
    executor.update_parameters(
        name="b2inst",
        nodes=machine.machines,
        tasks_per_node=1,
        slurm_setup=[f"export {name}={shlex.quote(value)}" for name, value in variables.items()],
        slurm_signal_delay_s=_GRACE_SECONDS + 10,
        # Since Slurm 22.05 srun does not take over what sbatch was told.
        slurm_srun_args=["--kill-on-bad-exit", f"--cpus-per-task={options['cpus_per_task']}"],
        slurm_additional_parameters=options,
    )
    return executor


def _job_path(run: Run) -> Path:
    return run.folder / "order.job.json"


def stop_file(run: Run) -> Path:
    """Return the file that tells the job of a run that it is stopped for good."""
    return run.folder / "order.stop"


def _scancel(*arguments: str) -> None:
    if arguments:
        subprocess.run(["scancel", *arguments], check=False)


def _states(jobs: Collection[Any]) -> dict[str, bool]:
    """Whether each job that has not ended is running. squeue needs no accounting database."""
    if _CLUSTER != "slurm" or not jobs:
        return {job.job_id: True for job in jobs if not job.done()}
    command = ["squeue", "--noheader", "--array", "--format=%i %T", "--user", getpass.getuser()]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    ids = {job.job_id for job in jobs}
    if asked.returncode != 0:  # the controller is busy or restarts; ask again later
        return dict.fromkeys(ids, False)
    listed = dict(line.split() for line in asked.stdout.splitlines())
    return {job: listed[job] in ("RUNNING", "COMPLETING") for job in ids & listed.keys()}
