"""Runs as jobs of a cluster; submitit's ``debug`` executor is the cluster, here and now."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import submitit

from b2inst.experiments.runs import slurm
from b2inst.experiments.runs.job import STOPPED, Job
from b2inst.experiments.runs.launch import run_all
from b2inst.experiments.runs.slurm import SlurmJob, sbatch_options, stop_file
from b2inst.experiments.runs.store import Run, open_run, write_json
from b2inst.experiments.specs.errors import RunError, SpecError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace


def _work(job: Job, *, endpoint: str) -> int:
    """Stands in for the work of a job; ends as the run's seed says."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder, spec = job.run.folder, job.spec
    os.write(1, f"a first line {endpoint}\n".encode())
    if spec.seed == 7:
        os.write(2, b"DataError: images/7.png: not readable\n")
        return 1
    if spec.seed == 9:
        (folder / "began").touch()
        try:
            if (folder / "signal").exists():
                os.kill(os.getpid(), int((folder / "signal").read_text()))
            time.sleep(60)
        except KeyboardInterrupt:
            (folder / "stopped").touch()
            return STOPPED
    (folder / "done").touch()
    return 0


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A job has a process of its own, and leaves its handlers and its output redirected there."""
    monkeypatch.setattr(slurm, "work", _work)
    monkeypatch.setattr(slurm, "is_complete", lambda run, *_: (run.folder / "done").is_file())
    for name, value in {"_CLUSTER": "debug", "_POLL_SECONDS": 0, "_SETTLE_SECONDS": 0}.items():
        monkeypatch.setattr(slurm, name, value)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    streams = {stream: os.dup(stream) for stream in (1, 2)}
    yield
    for stream, kept in streams.items():
        os.dup2(kept, stream)
        os.close(kept)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _specs(spec: RunSpec, *seeds: int) -> dict[str, RunSpec]:
    return {f"row seed {seed}": spec.model_copy(update={"seed": seed}) for seed in seeds}


def _run_all(specs: dict[str, RunSpec], workspace: Workspace) -> None:
    run_all(specs, workspace, split="test", machine=Resources(), launcher="slurm")


def test_each_run_is_a_job_and_one_that_fails_does_not_stop_the_others(
    spec: RunSpec, workspace: Workspace
) -> None:
    with pytest.raises(RunError) as error:
        _run_all(_specs(spec, 7, 0, 1), workspace)
    message = str(error.value)
    assert message.startswith("1 of 3 runs did not complete (2 did, and are kept): ")
    assert "row seed 7: DataError: images/7.png: not readable (see runs/" in message
    assert message.endswith("; rerun to resume from the last checkpoints")
    _run_all(_specs(spec, 0, 1), workspace)


def test_a_job_without_output_is_told_with_its_log(
    spec: RunSpec, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the node died; what an earlier job has printed is no reason."""
    specs = _specs(spec, 0)
    run = open_run(workspace.runs, specs["row seed 0"])
    run.folder.mkdir(parents=True)
    run.output_path.write_text("SpecError: of another time\n")
    os.utime(run.output_path, (1, 1))
    monkeypatch.setattr(SlurmJob, "__call__", lambda _: 1)
    with pytest.raises(RunError, match=r"job DEBUG_\d+ ended without output \(see .*_0_log.err\)"):
        _run_all(specs, workspace)


@pytest.fixture
def job(spec: RunSpec, workspace: Workspace) -> SlurmJob:
    """A job that works until it is told to stop."""
    spec = spec.model_copy(update={"seed": 9})
    open_run(workspace.runs, spec).folder.mkdir(parents=True)
    return SlurmJob(spec, workspace, "test", Resources())


def test_a_job_that_is_stopped_for_good_ends(
    job: SlurmJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job.run.folder / "signal").write_text(str(int(signal.SIGTERM)))
    stop_file(job.run).touch()
    monkeypatch.setattr(slurm.time, "sleep", lambda _: pytest.fail("waits to be queued again"))
    assert job() == STOPPED
    assert (job.run.folder / "stopped").is_file()


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_job_whose_time_is_up_stops_and_is_queued_again(
    job: SlurmJob, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By submitit's handler, also if Slurm sends SIGTERM first."""
    (job.run.folder / "signal").write_text(str(int(number)))
    monkeypatch.setattr(slurm.time, "sleep", _then(slurm.time.sleep))
    queued: list[Any] = []

    def handler(*_: Any) -> None:
        queued.append(job.checkpoint())
        raise SystemExit  # as submitit's does

    signal.signal(signal.SIGUSR2, handler)
    with pytest.raises(SystemExit):
        job()
    assert (job.run.folder / "stopped").is_file()
    assert [submission.function for submission in queued] == [job]


def _then(sleep: Any) -> Any:
    """Slurm's sign to requeue comes while a job waits for it."""

    def instead(seconds: float) -> None:
        if seconds == slurm._GRACE_SECONDS:
            os.kill(os.getpid(), signal.SIGUSR2)
        sleep(seconds)

    return instead


def test_several_machines_meet_at_the_first(job: SlurmJob, monkeypatch: pytest.MonkeyPatch) -> None:
    class Environment:
        hostnames = ("node7", "node8")
        raw_job_id = "123456"

    monkeypatch.setattr(submitit, "JobEnvironment", Environment)
    spec = job.spec.model_copy(update={"seed": 0})
    assert SlurmJob(spec, job.workspace, "test", Resources(devices=4, machines=2))() == 0
    output = open_run(job.workspace.runs, spec).output_path
    assert output.read_text() == "a first line node7:23456\n"


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ({}, {"time": "1-00:00:00", "cpus_per_task": 1}),
        ({"threads": 2, "workers": 3}, {"time": "1-00:00:00", "cpus_per_task": 5}),
        (
            {"devices": 4, "workers": 8, "slurm": {"time": "2:00:00", "cpus-per-task": 40}},
            {"time": "2:00:00", "cpus_per_task": 40, "gpus_per_node": 4},
        ),
        (
            {"devices": 4, "device": "cuda", "slurm": {"gres": "gpu:a100:4", "exclusive": True}},
            {"time": "1-00:00:00", "cpus_per_task": 4, "gres": "gpu:a100:4", "exclusive": True},
        ),
        ({"device": "cuda"}, {"time": "1-00:00:00", "cpus_per_task": 1, "gpus_per_node": 1}),
        ({"devices": 2, "device": "cpu"}, {"time": "1-00:00:00", "cpus_per_task": 2}),
    ],
)
def test_what_a_job_asks_for(machine: dict[str, Any], expected: dict[str, Any]) -> None:
    assert sbatch_options(Resources(**machine)) == expected


_TRES = {"slurm": {"tres_per_node": "gres/gpu:1"}}


@pytest.mark.parametrize("options", [{}, {"cpus_per_gpu": 4}, {"mem_per_gpu": "9G"}])
@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_gpu_is_asked_for(device: str, options: dict[str, Any]) -> None:
    asked = sbatch_options(Resources(device=device, slurm=options))
    assert asked["gpus_per_node"] == 1


def test_jobs_without_a_gpu_are_told() -> None:
    with pytest.warns(UserWarning, match="jobs get no GPU; request one with --device cuda"):
        assert "gpus_per_node" not in sbatch_options(Resources())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for machine in ({"device": "cpu"}, {"device": "cuda"}, {"slurm": {"gpus": "1"}}, _TRES):
            sbatch_options(Resources(**machine))  # type: ignore[arg-type]


def test_some_options_are_not_the_users() -> None:
    with pytest.raises(SpecError, match="slurm: array is set by b2inst"):
        sbatch_options(Resources(slurm={"array": "0-3"}))


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands of a Slurm that notes what it is asked, and says what it is told to."""
    folder = tmp_path / "bin"
    folder.mkdir()
    says = {"sbatch": "Submitted batch job 41\n", "squeue": "", "scancel": "", "srun": ""}
    for name, text in says.items():
        (folder / f"{name}.says").write_text(text)
        command = folder / name
        command.write_text(
            f"#!{sys.executable}\n"
            "import sys; from pathlib import Path\n"
            "me = Path(__file__)\n"
            "with me.with_suffix('.asked').open('a') as asked:\n"
            "    print(*sys.argv[1:], file=asked)\n"
            "answer = me.with_suffix('.says').read_text()\n"
            "sys.exit(answer[6:] if answer.startswith('error:') else print(answer, end=''))\n"
        )
        command.chmod(command.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(slurm, "_CLUSTER", "slurm")
    return folder


def test_missing_runs_are_an_array(spec: RunSpec, workspace: Workspace, cluster: Path) -> None:
    specs = _specs(spec, 0, 1)
    for each in specs.values():
        folder = open_run(workspace.runs, each).folder
        folder.mkdir(parents=True)
        (folder / "done").touch()
    _run_all(specs, workspace)
    (script,) = (cluster / "sbatch.asked").read_text().split()
    lines = Path(script).read_text().splitlines()
    assert "#SBATCH --array=0-1%2" in lines
    assert "#SBATCH --time=1-00:00:00" in lines
    assert any(line.startswith("srun") and "--cpus-per-task=1" in line for line in lines)
    jobs = [json.loads(p.read_text())["job"] for p in workspace.runs.glob("*/order.job.json")]
    assert sorted(jobs) == ["41_0", "41_1"]


def test_a_run_that_is_a_job_already_is_waited_for(
    spec: RunSpec, workspace: Workspace, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(workspace.runs, spec)
    write_json(run.folder / "order.job.json", {"job": "40_3"})
    (cluster / "squeue.says").write_text("40_2 RUNNING\n40_3 PENDING\n")
    polls = 0

    def sleep(_: float) -> None:
        nonlocal polls
        polls += 1
        if polls == 2:  # it says nothing of what is in the queue
            (cluster / "squeue.says").write_text("error: the controller is not there\n")
        if polls == 4:
            (cluster / "squeue.says").write_text("40_2 RUNNING\n")
            (run.folder / "done").touch()

    monkeypatch.setattr(slurm.time, "sleep", sleep)
    _run_all({"row": spec}, workspace)
    assert polls == 4
    assert not (cluster / "sbatch.asked").exists()


def test_ctrl_c_cancels_what_waits_and_stops_what_runs(
    spec: RunSpec, workspace: Workspace, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = _specs(spec, 0, 1)
    runs: list[Run] = [open_run(workspace.runs, each) for each in specs.values()]
    for i, run in enumerate(runs):
        write_json(run.folder / "order.job.json", {"job": f"40_{i}"})
    (cluster / "squeue.says").write_text("40_0 RUNNING\n40_1 PENDING\n")

    def press(_: float) -> None:
        if not stop_file(runs[0]).exists():
            raise KeyboardInterrupt
        (cluster / "squeue.says").write_text("")  # all have ended

    monkeypatch.setattr(slurm.time, "sleep", press)
    with pytest.raises(KeyboardInterrupt):
        _run_all(specs, workspace)
    assert (cluster / "scancel.asked").read_text().splitlines() == [
        "--state=PENDING 40_0 40_1",
        "--signal=TERM 40_0 40_1",
    ]
    assert all(stop_file(run).exists() for run in runs)


def test_without_slurm_or_with_options_it_refuses(
    spec: RunSpec, workspace: Workspace, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cluster / "sbatch.says").write_text("error: invalid partition specified: gpu\n")
    with pytest.raises(SpecError, match=r"sbatch rejected the jobs: .*invalid partition"):
        _run_all({"row": spec}, workspace)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SpecError, match=r"--launcher slurm: .*srun"):
        _run_all({"row": spec}, workspace)
