"""What a job of a cluster does: have a run worked on, and stop it in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import submitit

from b2inst.experiments.runs.orders import on_devices
from b2inst.experiments.runs.processes import STOPPED, child_environment, death
from b2inst.experiments.runs.store import Run
from b2inst.experiments.specs.resources import Resources

#: How long a job that is told to stop may take to write its checkpoint.
GRACE_SECONDS = 80.0
_POLL_SECONDS = 1.0


@dataclass
class Job:
    """Called on each node of the job."""

    worker: list[str]  #: as ``orders.order`` tells
    machine: Resources
    run: Run
    child: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Returns the exit status of the worker, which may be one of several."""
        endpoint = ""
        if self.machine.machines > 1:
            here = submitit.JobEnvironment()
            endpoint = f"{here.hostnames[0]}:{20000 + int(here.raw_job_id) % 10000}"
        with self.run.output_path.open("ab", buffering=0) as output:
            child = subprocess.Popen(
                [sys.executable, *on_devices(self.worker, self.machine, endpoint=endpoint)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=child_environment(threads=self.machine.threads),
                start_new_session=True,
                # Slurm sends this one, the sign to requeue, to every process of a job.
                preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
            )
            self.child = child
            while child.poll() is None:
                if stop_file(self.run).exists():
                    self._tell_to_stop()
                time.sleep(_POLL_SECONDS)
            if child.returncode == STOPPED and not stop_file(self.run).exists():
                time.sleep(GRACE_SECONDS)  # by SIGTERM; the sign to requeue is still to come
            if child.returncode < 0:
                output.write(f"{death(child.returncode)}\n".encode())
        return child.returncode

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What is to be queued again; submitit calls this when the job has to end."""
        self._tell_to_stop()
        deadline = time.monotonic() + GRACE_SECONDS
        while self._is_alive() and time.monotonic() < deadline:
            time.sleep(0.2)
        return submitit.helpers.DelayedSubmission(replace(self, child=None))

    def _tell_to_stop(self) -> None:
        if self.child is not None and self.child.stdin is not None:
            self.child.stdin.close()

    def _is_alive(self) -> bool:
        # Not by `poll`: this runs in a signal handler, and `poll` may be what was interrupted.
        if self.child is None:
            return False
        try:
            how = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return os.waitid(os.P_PID, self.child.pid, how) is None
        except ChildProcessError:
            return False


def stop_file(run: Run) -> Path:
    """While it is there, the job of the run is to stop."""
    return run.folder / "order.stop"
