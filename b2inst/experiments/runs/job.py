"""A run as the work of a process, which finds package and threads by its environment."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import b2inst
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
        if status == STOPPED:
            why = "was stopped"
        elif status is not None and (status < 0 or not lines):
            why = describe_exit(status)
        else:
            why = lines[-1] if lines else "ended without a word"
        return f"{why} (see {self.workspace.shown(path)})"


def describe_exit(status: int) -> str:
    """Say how a process ended that printed nothing."""
    if status == -signal.SIGKILL:
        return "was killed by the system, most likely because memory ran out; try --jobs 1"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"


def child_environment(*, threads: int | None = None) -> dict[str, str]:
    """Return variables with which a child process finds the same package, and uses its threads."""
    package = str(Path(b2inst.__file__).parents[1])
    search_path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    # Threads that wait leave their cores to other processes.
    variables = {"PYTHONPATH": search_path, "OMP_WAIT_POLICY": "passive"}
    if threads is not None:
        variables |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return variables


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for processes that are started within."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
