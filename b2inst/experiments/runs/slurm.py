"""Runs as jobs of an array on a Slurm cluster, by submitit."""

from __future__ import annotations

import getpass
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from b2inst.experiments.runs.environment import child_environment
from b2inst.experiments.runs.launch import Ended
from b2inst.experiments.runs.runner import is_complete
from b2inst.experiments.runs.store import Run, open_run, read_json, write_json
from b2inst.experiments.runs.worker import STOPPED, reason, redirect_output, work
from b2inst.experiments.specs.data_spec import SplitName
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
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
#: How often a job may run out of time and be queued again.
_REQUEUES = 1000
#: sbatch's options that are not the user's to set.
_OURS = ("array", "error", "output", "signal", "nodes", "ntasks_per_node")


@dataclass(frozen=True)
class Job:
    """What a job does on each of its machines."""

    spec: RunSpec
    workspace: Workspace
    split: SplitName
    machine: Resources

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

        run = open_run(self.workspace.runs, self.spec)
        signal.signal(signal.SIGUSR2, stop)
        redirect_output(run)
        arguments = (self.spec, self.workspace, self.split, self.machine)
        status = work(*arguments, endpoint=self._endpoint())
        signal.signal(signal.SIGUSR2, requeue)
        if time_is_up:
            requeue(signal.SIGUSR2, None)
        elif status == STOPPED and not stop_file(run).exists():
            time.sleep(_GRACE_SECONDS)  # until SIGUSR2 comes
        return status

    def _endpoint(self) -> str:
        if self.machine.machines == 1:
            return ""
        here = submitit.JobEnvironment()
        return f"{here.hostnames[0]}:{20000 + int(here.raw_job_id) % 10000}"

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Return what submitit queues again."""
        return submitit.helpers.DelayedSubmission(self)


class SlurmJobs:
    """A job for each run; the jobs go on if this process ends other than by Ctrl-C.

    Jobs that an earlier call has submitted are waited for instead of being submitted again.

    Raises:
        SpecError: There is no Slurm here, or it refuses the options.
    """

    def __init__(
        self,
        specs: Mapping[str, RunSpec],
        workspace: Workspace,
        split: SplitName,
        machine: Resources,
    ) -> None:
        self._specs, self._workspace, self._split = specs, workspace, split
        self._runs = {label: open_run(workspace.runs, spec) for label, spec in specs.items()}
        self._ended: dict[str, str | None] = {}
        executor = _executor(workspace, machine)
        earlier: dict[str, Any] = {
            label: submitit.SlurmJob(executor.folder, read_json(_job_path(run))["job"])
            for label, run in self._runs.items()
            if _CLUSTER == "slurm" and _job_path(run).is_file()
        }
        states = _states(earlier.values())
        self._jobs = {k: job for k, job in earlier.items() if job.job_id in states}
        new = [label for label in specs if label not in self._jobs]
        if not new:
            return
        for label in new:
            stop_file(self._runs[label]).unlink(missing_ok=True)
        executor.update_parameters(slurm_array_parallelism=len(new))
        try:
            jobs = executor.submit_array([Job(specs[k], workspace, split, machine) for k in new])
        except submitit.core.utils.FailedJobError as error:
            said = " ".join(str(error).split())
            raise SpecError(f"sbatch rejected the jobs: {said}") from None
        for label, job in zip(new, jobs, strict=True):
            write_json(_job_path(self._runs[label]), {"job": job.job_id})
            self._jobs[label] = job

    def poll(self) -> tuple[Sequence[str], Ended]:
        """Wait a little; return the runs that run and those that have ended."""
        time.sleep(_POLL_SECONDS)
        states = _states(self._unfinished())
        for label, job in self._jobs.items():
            if label not in self._ended and job.job_id not in states:
                self._ended[label] = self._outcome(label)
        running = [label for label, job in self._jobs.items() if states.get(job.job_id)]
        return running, self._ended

    def _unfinished(self) -> list[Any]:
        return [job for label, job in self._jobs.items() if label not in self._ended]

    def _outcome(self, label: str) -> str | None:
        run, job = self._runs[label], self._jobs[label]
        for _ in range(_SETTLE_SECONDS + 1):
            if is_complete(run, self._specs[label], self._split):
                return None
            time.sleep(_SETTLE_SECONDS > 0)
        output, submitted = run.output_path, _job_path(run).stat().st_mtime
        if output.is_file() and output.stat().st_mtime >= submitted:
            return reason(run, None, self._workspace)
        return f"job {job.job_id} ended without a word (see {job.paths.stderr})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not KeyboardInterrupt:
            return
        jobs = self._unfinished()
        for label in self._jobs.keys() - self._ended.keys():
            stop_file(self._runs[label]).touch()
        for what in ("--state=PENDING", "--signal=TERM"):
            _scancel(what, *(job.job_id for job in jobs))
        deadline = time.monotonic() + _GRACE_SECONDS
        while _states(jobs) and time.monotonic() < deadline:
            time.sleep(1)
        _scancel(*_states(jobs))


def sbatch_options(machine: Resources) -> dict[str, Any]:
    """Options of sbatch, by their long names with underscores.

    Raises:
        SpecError: The user gives an option that b2inst sets.
    """
    given = {name.replace("-", "_"): value for name, value in machine.slurm.items()}
    if taken := sorted(set(given) & set(_OURS)):
        raise SpecError(
            f"slurm: {taken[0]} is set by b2inst; give partition, time, mem and such, and "
            "machines and devices on their own"
        )
    derived: dict[str, Any] = {
        "time": "1-00:00:00",
        "cpus_per_task": machine.devices * (max(machine.threads or 1, 1) + machine.workers),
    }
    on_gpus = machine.device == "cuda" or (machine.device == "auto" and machine.devices > 1)
    if on_gpus and not any("gpu" in name or name == "gres" for name in given):
        derived["gpus_per_node"] = machine.devices
    return derived | given


def _executor(workspace: Workspace, machine: Resources) -> submitit.AutoExecutor:
    options = sbatch_options(machine)
    try:
        executor = submitit.AutoExecutor(
            workspace.runs / ".jobs" / "%j", cluster=_CLUSTER, slurm_max_num_timeout=_REQUEUES
        )
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
    """A file that tells the job of a run that it is stopped for good."""
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
