"""Several runs at a time, each a job of an array on a Slurm cluster."""

from __future__ import annotations

import getpass
import shlex
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from b2inst.experiments.runs.orders import failed, failure, order
from b2inst.experiments.runs.processes import search_path
from b2inst.experiments.runs.progress import Progress
from b2inst.experiments.runs.runner import is_complete
from b2inst.experiments.runs.store import Run, open_run, read_json, write_json
from b2inst.experiments.specs.data_spec import SplitName
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace

try:
    import submitit

    from b2inst.experiments.runs.slurm_job import GRACE_SECONDS, Job, stop_file
except ModuleNotFoundError:
    raise SpecError(
        "--launcher slurm needs submitit; install it with: pip install 'b2inst[cluster]'"
    ) from None

_POLL_SECONDS = 5.0
#: How long what a job wrote last may take to be seen through a shared file system.
_SETTLE_SECONDS = 15
#: Jobs may run out of time and be queued again as often as that.
_REQUEUES = 1000
#: sbatch's options that are not the user's to set.
_OURS = ("array", "error", "output", "signal", "nodes", "ntasks_per_node")


def run_all(
    specs: Mapping[str, RunSpec],
    workspace: Workspace,
    *,
    split: SplitName,
    machine: Resources,
    complete: Mapping[str, RunSpec] = MappingProxyType({}),
    progress: bool = True,
    cluster: str = "slurm",
) -> None:
    """Complete runs as jobs of an array; one that fails does not stop the others.

    How many work at a time is the scheduler's to decide. Progress is what their logs say, so the
    workspace is in a file system that the cluster shares. A job whose time is up or that has to
    make room is queued again and goes on. Ctrl-C stops the jobs; if this process ends otherwise,
    they go on, and a later call waits for them instead of submitting them again.

    Args:
        specs: by the label that progress and errors name them by; data prepared.
        machine: ``devices`` on each of ``machines`` nodes for a run, and ``slurm`` options, which
            win over what is derived from these.
        cluster: where submitit submits to; "local" and "debug" are for trying out.

    Raises:
        SpecError: there is no Slurm here, or it refuses the options.
        RunError: some did not complete; names them, why, and where their output is.
        KeyboardInterrupt: after the jobs have stopped. Their checkpoints stay.
    """
    executor = _executor(workspace, machine, cluster)
    runs = {label: open_run(workspace.runs, spec) for label, spec in specs.items()}
    jobs = _still_queued(runs, executor) if cluster == "slurm" else {}
    new = {label: spec for label, spec in specs.items() if label not in jobs}
    jobs |= _submit(new, workspace, split, machine, executor)
    failures: list[str] = []
    waiting = dict(jobs)
    every = {**complete, **specs}
    with Progress(every, workspace, enabled=progress, done=complete) as bar:
        try:
            while waiting:
                states = _states(waiting.values())
                running = [label for label, job in waiting.items() if states.get(job.job_id)]
                ended = [label for label in specs if label not in waiting]
                bar.show(running, queued=len(states) - len(running), finished=ended)
                for label in [label for label, j in waiting.items() if j.job_id not in states]:
                    job = waiting.pop(label)
                    if not _settled(runs[label], specs[label], split):
                        failures.append(_failure(label, runs[label], job, workspace))
                if waiting:
                    time.sleep(_POLL_SECONDS)
        except KeyboardInterrupt:
            _stop({label: runs[label] for label in waiting}, waiting.values())
            raise
    if failures:
        raise failed(failures, len(specs))


def sbatch_options(machine: Resources) -> dict[str, Any]:
    """What a job asks of the cluster, by sbatch's long names with underscores.

    Raises:
        SpecError: an option that is not the user's to set.
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


def _executor(workspace: Workspace, machine: Resources, cluster: str) -> submitit.AutoExecutor:
    options = sbatch_options(machine)
    try:
        executor = submitit.AutoExecutor(
            workspace.runs / ".jobs" / "%j", cluster=cluster, slurm_max_num_timeout=_REQUEUES
        )
    except RuntimeError as error:
        raise SpecError(f"--launcher slurm: {error}") from None
    executor.update_parameters(
        name="b2inst",
        nodes=machine.machines,
        tasks_per_node=1,
        slurm_setup=[f"export PYTHONPATH={shlex.quote(search_path())}"],
        slurm_signal_delay_s=int(GRACE_SECONDS) + 10,
        # Since Slurm 22.05 srun does not take over what sbatch was told.
        slurm_srun_args=["--kill-on-bad-exit", f"--cpus-per-task={options['cpus_per_task']}"],
        slurm_additional_parameters=options,
    )
    return executor


def _submit(
    specs: Mapping[str, RunSpec],
    workspace: Workspace,
    split: SplitName,
    machine: Resources,
    executor: submitit.AutoExecutor,
) -> dict[str, Any]:
    if not specs:
        return {}
    executor.update_parameters(slurm_array_parallelism=len(specs))
    runs = [open_run(workspace.runs, spec) for spec in specs.values()]
    tasks = [
        Job(order(spec, workspace, split, machine), machine, run)
        for run, spec in zip(runs, specs.values(), strict=True)
    ]
    for run in runs:
        stop_file(run).unlink(missing_ok=True)
    try:
        jobs = executor.submit_array(tasks)
    except submitit.core.utils.FailedJobError as error:
        raise SpecError(f"sbatch refuses the jobs: {' '.join(str(error).split())}") from None
    for run, job in zip(runs, jobs, strict=True):
        write_json(_job_path(run), {"job": job.job_id})
    return dict(zip(specs, jobs, strict=True))


def _job_path(run: Run) -> Path:
    return run.folder / "order.job.json"


def _still_queued(runs: Mapping[str, Run], executor: submitit.AutoExecutor) -> dict[str, Any]:
    """The jobs of an earlier call that have not ended."""
    known: dict[str, Any] = {
        label: submitit.SlurmJob(executor.folder, read_json(_job_path(run))["job"])
        for label, run in runs.items()
        if _job_path(run).is_file()
    }
    states = _states(known.values())
    return {label: job for label, job in known.items() if job.job_id in states}


def _states(jobs: Iterable[Any]) -> dict[str, bool]:
    """Of each job that has not ended whether it is running. squeue needs no accounting database."""
    jobs = list(jobs)
    if not all(isinstance(job, submitit.SlurmJob) for job in jobs):
        return {job.job_id: True for job in jobs if not job.done()}
    ids = {job.job_id for job in jobs}
    asked = subprocess.run(
        ["squeue", "--noheader", "--array", "--format=%i %T", "--user", getpass.getuser()],
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode != 0:  # the controller is busy or restarts; ask again later
        return dict.fromkeys(ids, False)
    listed = dict(line.split() for line in asked.stdout.splitlines())
    return {job: listed[job] in ("RUNNING", "COMPLETING") for job in ids & listed.keys()}


def _settled(run: Run, spec: RunSpec, split: SplitName) -> bool:
    """Whether a run whose job has ended is complete."""
    for _ in range(_SETTLE_SECONDS):
        if is_complete(run, spec, split):
            return True
        time.sleep(1)
    return is_complete(run, spec, split)


def _failure(label: str, run: Run, job: Any, workspace: Workspace) -> str:
    output, since = run.output_path, _job_path(run).stat().st_mtime
    if output.is_file() and output.stat().st_mtime >= since:
        return failure(label, run, None, workspace)
    return f"{label}: job {job.job_id} ended without a word (see {job.paths.stderr})"


def _stop(runs: Mapping[str, Run], jobs: Iterable[Any]) -> None:
    jobs = list(jobs)
    for run in runs.values():
        stop_file(run).touch()
    ids = [job.job_id for job in jobs]
    if all(isinstance(job, submitit.SlurmJob) for job in jobs):
        subprocess.run(["scancel", "--state=PENDING", *ids], check=False)
    deadline = time.monotonic() + GRACE_SECONDS
    while _states(jobs) and time.monotonic() < deadline:
        time.sleep(1)
    for job in jobs:
        if job.job_id in _states([job]):
            job.cancel(check=False)
