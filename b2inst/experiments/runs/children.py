"""What processes that this one starts need, without importing PyTorch."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from pathlib import Path

import b2inst
from b2inst.experiments.specs.resources import Resources

#: Memory in large pages that a process keeps, because clearing small pages anew in each step takes
#: time. Other C libraries than glibc ignore it.
_KEEP_MEMORY = ":".join(
    f"glibc.malloc.{name}={value}"
    for name, value in {"hugetlb": 1, "mmap_threshold": 2**30, "trim_threshold": 2**30}.items()
)


def child_environment(*, threads: int | None = None) -> dict[str, str]:
    """Return variables with which a child process finds the same package, and uses its threads."""
    package = str(Path(b2inst.__file__).parents[1])
    search_path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    # Threads that wait leave their cores to other processes.
    variables = {"PYTHONPATH": search_path, "OMP_WAIT_POLICY": "passive"}
    variables["GLIBC_TUNABLES"] = os.environ.get("GLIBC_TUNABLES", _KEEP_MEMORY)
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


def start_fork_server(machine: Resources) -> None:
    """Start the process that runs are forked from, which imports PyTorch while this one goes on."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["b2inst.experiments.runs.launch", "lightning.fabric"])
    # Ctrl-C is for this process, which stops the runs. The server would print a traceback. Starting
    # the tracker, which starting the server includes, lets the signal through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with environment(child_environment(threads=machine.settled().threads)):
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
