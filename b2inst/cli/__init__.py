"""The command line: ``b2inst --help``.

Commands import what they need when they are called, so that --help and usage errors are fast.
"""

from __future__ import annotations

import io
import sys
import warnings
from typing import Annotated, Any

import typer
from typer import Option
from typer.core import TyperGroup

import b2inst
from b2inst.cli import data, evaluation, experiments, models
from b2inst.data.wording import BadFileError

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
            options = {option.name for option in self.commands[ctx.invoked_subcommand].params}
            skipped = isinstance(error, BadFileError) and "skip_bad" in options
            remedy = " or leave it out with --skip-bad" if skipped else ""
            typer.echo(f"error: {error}{remedy}", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Importing Rich takes longer than all else that help does, and so does Pydantic, with which
    # Typer would check the groups' `--help` where it is not given.
    rich_markup_mode=None,
    context_settings={"default_map": {"help": False, "data": {"help": False}}},
    help="Train, evaluate and run B2Inst and its baselines, and reproduce the paper's tables.",
)
app.command()(experiments.train)
app.command("eval")(evaluation.evaluate)
app.command()(models.predict)
app.command()(evaluation.compare)
app.command()(evaluation.bench)
app.command()(models.convert)
app.command()(models.export)
app.command()(evaluation.submit)
app.command()(experiments.table)
app.command()(experiments.figures)
app.command()(experiments.report)
app.command()(experiments.runs)
app.command()(experiments.publish)
app.command()(models.models)
app.command()(models.profiles)

data_app = typer.Typer(
    cls=Commands, no_args_is_help=True, help="Check, convert, download and generate data."
)
for command in (data.check, data.convert, data.coco, data.nuclei, data.scenes):
    data_app.command()(command)
app.add_typer(data_app, name="data")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"b2inst {b2inst.__version__}")
        raise typer.Exit


_Version = Option("--version", callback=_show_version, is_eager=True, help="Show the version.")


@app.callback()
def _settings(version: Annotated[bool, _Version] = False) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be UTF-8
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
