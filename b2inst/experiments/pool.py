"""Several runs at a time, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from b2inst.experiments.data_spec import SplitName
from b2inst.experiments.errors import RunError
from b2inst.experiments.processes import STOPPED, child_environment
from b2inst.experiments.resources import Resources
from b2inst.experiments.run_spec import RunSpec
from b2inst.experiments.store import Run, RunStatus, open_run, write_json
from b2inst.experiments.workspace import Workspace

#: What Python is to run for a run.
_WORKER = ("-m", "b2inst.experiments.worker")
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

    Each is a fresh Python process rather than a fork or a thread: its thread count is settled
    before PyTorch loads, its memory is its own, and it can be ended.

    Args:
        specs: by the label that progress and errors name them by; data prepared.

    Raises:
        RunError: some did not complete; names them, why, and where their output is.
        KeyboardInterrupt: after the processes have stopped. Their checkpoints stay.
    """
    waiting = deque((label, spec) for label, spec in specs.items())
    working: list[_Process] = []
    failures: list[str] = []
    with _Progress(specs, workspace, enabled=progress) as bar:
        try:
            while waiting or working:
                while waiting and len(working) < machine.jobs:
                    label, spec = waiting.popleft()
                    working.append(_start(label, spec, workspace, split, machine))
                time.sleep(_POLL_SECONDS)
                bar.show([process.label for process in working])
                for process in [p for p in working if p.popen.poll() is not None]:
                    working.remove(process)
                    if process.popen.returncode != 0:
                        failures.append(process.failure(workspace))
        finally:
            _stop(working)
    if failures:
        done = len(specs) - len(failures)
        raise RunError(
            f"{len(failures)} of {len(specs)} runs did not complete ({done} did, and are kept): "
            + "; ".join(failures)
        )


@dataclass
class _Process:
    label: str
    run: Run
    popen: subprocess.Popen[bytes]

    def failure(self, workspace: Workspace) -> str:
        """Why it ended without success, in one line."""
        code = self.popen.returncode
        if code == STOPPED:
            reason = "was stopped"
        elif code == -9:
            reason = "was killed by the system, most likely for want of memory; try --jobs 1"
        else:
            lines = self.run.output_path.read_text(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else f"exit status {code}"
        return f"{self.label}: {reason} (see {workspace.shown(self.run.output_path)})"


def _start(
    label: str, spec: RunSpec, workspace: Workspace, split: SplitName, machine: Resources
) -> _Process:
    run = open_run(workspace.runs, spec)
    orders = {"spec": spec, "machine": machine}
    for name, order in orders.items():
        write_json(run.folder / f"order.{name}.json", order.model_dump(mode="json"))
    launcher = [sys.executable]
    if machine.devices > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone"]
        launcher += ["--nproc-per-node", str(machine.devices)]
    with run.output_path.open("ab") as output:
        popen = subprocess.Popen(
            [
                *(*launcher, *_WORKER, str(run.folder / "order.spec.json")),
                *("--machine", str(run.folder / "order.machine.json")),
                *("--root", str(workspace.root)),
                *("--split", split),
                "--with-parent",
            ],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=child_environment(threads=machine.threads),
            # Ctrl-C in the terminal reaches this process only, which then stops the others.
            start_new_session=True,
        )
    return _Process(label, run, popen)


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


class _Progress:
    """One bar over the iterations of all runs, from what their logs say."""

    def __init__(
        self, specs: Mapping[str, RunSpec], workspace: Workspace, *, enabled: bool
    ) -> None:
        self._runs = {label: open_run(workspace.runs, spec) for label, spec in specs.items()}
        self._totals = {label: spec.schedule.iterations for label, spec in specs.items()}
        start = sum(self._iterations(label) for label in specs)
        self._bar = tqdm(
            total=sum(self._totals.values()),
            initial=start,
            unit="it",
            disable=not enabled or not specs,
            mininterval=0.5 if sys.stderr.isatty() else 15.0,
            bar_format="{percentage:3.0f}% |{bar:20}| {elapsed} < {remaining}  {desc}",
        )

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, working: list[str]) -> None:
        """Update the bar; ``working`` are the runs in process."""
        self._bar.set_description_str(", ".join(map(self._describe, working)), refresh=False)
        self._bar.update(sum(map(self._iterations, self._runs)) - self._bar.n)

    def _describe(self, label: str) -> str:
        run = self._runs[label]
        if run.status is RunStatus.TRAINED:
            return f"{label} evaluating"
        return f"{label} {self._iterations(label)}/{self._totals[label]}"

    def _iterations(self, label: str) -> int:
        run = self._runs[label]
        if run.status is RunStatus.TRAINED:
            return self._totals[label]
        return min(last_iteration(run.log_path), self._totals[label])


def last_iteration(log: Path) -> int:
    """Iteration of the last whole line of a training log; 0 without one."""
    if not log.is_file():
        return 0
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - 4096, 0))
        lines = file.read().splitlines()
    for line in reversed(lines):
        try:
            return int(json.loads(line)["iteration"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0
