"""Errors that users can mend are told in one line."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

STOPPED = 130  #: exit status after Ctrl-C, as shells have it


class Commands(TyperGroup):
    """A group of commands whose errors come without a traceback, where they are not bugs."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("stopped; rerun to resume", err=True)
            raise typer.Exit(STOPPED) from None
        except Exception as error:
            if not type(error).__module__.startswith("b2inst.") and not isinstance(error, OSError):
                raise
            typer.echo(f"error: {_describe(error)}", err=True)
            raise typer.Exit(1) from None


def check_new(*paths: Path, overwrite: bool) -> None:
    """See that outputs replace no file, before the work of making them.

    Raises:
        FileExistsError: a file is there, and ``overwrite`` is not set.
    """
    for path in paths:
        if os.path.lexists(path) and not overwrite:
            raise FileExistsError(
                f"{path}: is there already; choose another output, or replace it with --overwrite"
            )


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"no disk space left ({error.filename}); make room and run again"
    return str(error)
