"""Errors of users in one line, without a traceback."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

#: Commands that go on where they were stopped.
_RESUMED = ("table", "train", "predict", "nuclei", "coco")

STOPPED = 130  #: exit status after Ctrl-C, as in shells


class Commands(TyperGroup):
    """A group of commands that print errors in one line, and bugs with their traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            resumed = ctx.invoked_subcommand in _RESUMED
            typer.echo(f"stopped{'; rerun to resume' if resumed else ''}", err=True)
            raise typer.Exit(STOPPED) from None
        except Exception as error:
            if not type(error).__module__.startswith("b2inst.") and not isinstance(error, OSError):
                raise
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(1) from None


def check_new(*paths: Path, overwrite: bool) -> None:
    """Check that no output file exists yet, before the work of making it.

    Raises:
        FileExistsError: A file exists, and ``overwrite`` is False.
    """
    for path in paths:
        if os.path.lexists(path) and not overwrite:
            raise FileExistsError(
                f"{path}: already exists; choose another output, or replace it with --overwrite"
            )
