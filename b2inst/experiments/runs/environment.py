"""The environment of processes that this package starts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import b2inst


def child_environment(*, threads: int | None = None) -> dict[str, str]:
    """Variables with which a child process finds the same package, installed or not.

    Args:
        threads: CPU threads of the child (default: left to PyTorch).
    """
    package = str(Path(b2inst.__file__).parents[1])
    search_path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    variables = {"PYTHONPATH": search_path}
    variables["OMP_WAIT_POLICY"] = "passive"  # waiting threads yield to other processes
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
