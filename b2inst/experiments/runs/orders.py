"""A run in the hands of processes of its own: what they are told, and why they failed."""

from __future__ import annotations

from collections.abc import Sequence

from b2inst.experiments.runs.processes import STOPPED, death
from b2inst.experiments.runs.store import Run, open_run, write_json
from b2inst.experiments.specs.data_spec import SplitName
from b2inst.experiments.specs.errors import RunError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace

#: What Python is to run for a run.
WORKER = ("-m", "b2inst.experiments.runs.worker")
_ON_DEVICES = ("-m", "b2inst.experiments.runs.torchrun")


def order(spec: RunSpec, workspace: Workspace, split: SplitName, machine: Resources) -> list[str]:
    """Write down what is to be done; returns the arguments with which Python does it.

    A worker started so stops when its standard input closes. On several devices,
    ``on_devices`` tells how Python starts them.
    """
    run = open_run(workspace.runs, spec)
    orders = {"spec": spec, "machine": machine}
    for name, content in orders.items():
        write_json(run.folder / f"order.{name}.json", content.model_dump(mode="json"))
    return [
        *(*WORKER, str(run.folder / "order.spec.json")),
        *("--machine", str(run.folder / "order.machine.json")),
        *("--root", str(workspace.root)),
        *("--split", split),
        "--with-parent",
    ]


def on_devices(worker: Sequence[str], machine: Resources, *, endpoint: str = "") -> list[str]:
    """Arguments of Python for a worker on each device of this machine.

    Args:
        worker: what ``order`` returned.
        endpoint: HOST:PORT of the first machine, where there are several.
    """
    if machine.devices == machine.machines == 1:
        return list(worker)
    several = ["--machines", str(machine.machines), "--endpoint", endpoint]
    meeting = several if machine.machines > 1 else []
    return [*_ON_DEVICES, "--devices", str(machine.devices), *meeting, "--", *worker]


def failure(label: str, run: Run, status: int | None, workspace: Workspace) -> str:
    """Why processes ended without success, in one line.

    Args:
        status: that they ended with, where it is known.
    """
    lines: list[str] = []
    if run.output_path.is_file():
        lines = run.output_path.read_text(errors="replace").strip().splitlines()
    if status == STOPPED:
        reason = "was stopped"
    elif status is not None and status < 0:
        reason = death(status)
    else:
        reason = lines[-1] if lines else f"exit status {status}"
    return f"{label}: {reason} (see {workspace.shown(run.output_path)})"


def failed(failures: Sequence[str], runs: int) -> RunError:
    """The error of ``failures`` among so many runs."""
    return RunError(
        f"{len(failures)} of {runs} runs did not complete ({runs - len(failures)} did, and are "
        f"kept): {'; '.join(failures)}; run again to go on from the last checkpoints"
    )
