"""Folders that one process works in at a time, and files that are whole or not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout


@contextmanager
def locked(folder: Path, busy: Exception) -> Iterator[None]:
    """Hold a folder, made if need be, for this process; ``busy`` is raised if another has it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise busy from None
    with held:
        yield


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file of this writer's own, which takes the place of ``path`` in the end."""
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
