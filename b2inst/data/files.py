"""Files and folders that are written completely or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

from filelock import FileLock, Timeout

from b2inst.data.wording import DataError


@contextmanager
def locked(folder: Path, busy: Exception) -> Iterator[None]:
    """Hold a folder, made if need be, for this process; raise ``busy`` if another has it."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            held = FileLock(folder / ".lock").acquire(timeout=0)
        except Timeout:
            raise busy from None
    with held:
        yield


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file, unique to this writer, that finally replaces ``path``."""
    partial = path.with_name(f".{uuid4().hex}.partial")  # names have 255 bytes at most
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that finally becomes ``folder``, which must not exist or be empty."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as aside:
        made = Path(aside) / "made"  # has the usual permissions, unlike `aside`
        made.mkdir()
        yield made
        if folder.exists():
            folder.rmdir()
        made.rename(folder)


@contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Turn errors of the file system into a DataError with a remedy."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or root}: cannot be written ({error.strerror or error}); "
            "make room or choose another folder, and rerun to resume"
        ) from error
