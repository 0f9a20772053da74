"""The command line: ``b2inst --help``.

Commands import what they need when they are called, so that --help and usage errors are fast.
"""

from __future__ import annotations

import io
import sys
import warnings
from typing import Annotated

import typer
from typer import Option

import b2inst
from b2inst.cli import bench, data, evaluation, experiments, listing, models
from b2inst.cli.errors import Commands

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
app.command()(bench.bench)
app.command()(models.convert)
app.command()(models.export)
app.command()(evaluation.submit)
app.command()(experiments.table)
app.command()(experiments.figures)
app.command()(experiments.report)
app.command()(experiments.runs)
app.command()(experiments.publish)
app.command()(listing.models)
app.command()(listing.profiles)

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


@app.callback()
def _settings(
    version: Annotated[  # its callback does all
        bool,
        Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # file names need not be UTF-8
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"


__all__ = ["app"]
