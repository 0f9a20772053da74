"""What the processes that this package starts find in their environment."""

from __future__ import annotations

import os
from pathlib import Path

import b2inst

#: Exit status of a process that was told to stop, as shells report Ctrl-C.
STOPPED = 130


def child_environment(*, threads: int | None = None) -> dict[str, str]:
    """This process's environment, with which a child finds the same package, installed or not.

    Args:
        threads: CPU threads of the child; None leaves it to PyTorch.
    """
    package = str(Path(b2inst.__file__).parents[1])
    search = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": search}
    if threads is not None:
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        environment["OMP_WAIT_POLICY"] = "passive"  # waiting threads yield to other processes
    return environment
