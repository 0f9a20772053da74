"""What the processes that this package starts find in their environment, and how they end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import b2inst

#: Exit status of a process that was told to stop, as shells report Ctrl-C.
STOPPED = 130


def child_environment(*, threads: int | None = None) -> dict[str, str]:
    """This process's environment, with which a child finds the same package, installed or not.

    Args:
        threads: CPU threads of the child; None leaves it to PyTorch.
    """
    environment = {**os.environ, "PYTHONPATH": search_path()}
    if threads is not None:
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        environment["OMP_WAIT_POLICY"] = "passive"  # waiting threads yield to other processes
    return environment


def search_path() -> str:
    """Where Python looks for modules, with the folder of this package first."""
    package = str(Path(b2inst.__file__).parents[1])
    return os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))


def death(status: int) -> str:
    """What the exit status of a process tells that said nothing itself."""
    if status == -signal.SIGKILL:
        return "was killed by the system, most likely for want of memory; try --jobs 1"
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"
