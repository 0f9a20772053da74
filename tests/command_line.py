"""Commands of ``b2inst``, called in this process."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from b2inst.cli import app


def call(*arguments: object) -> Result:
    """Call a command."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def error(*arguments: object) -> str:
    """The one line a command fails with."""
    result = call(*arguments)
    assert result.exit_code == 1, result.output
    (line,) = result.stderr.strip().splitlines()
    return line
