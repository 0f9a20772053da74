"""The command line: ``b2inst --help``.

The commands import what they need when they are called, so that mistyped options are told at once.
"""

from __future__ import annotations

import io
import sys
import warnings
from typing import Annotated

import typer

import b2inst
from b2inst.cli import (
    bench,
    compare,
    data,
    experiments,
    figures,
    listing,
    models,
    report,
    weights,
)
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
    help="Boundary bases for instance segmentation: train, evaluate, reproduce the paper's tables.",
)
app.command()(experiments.table)
app.command()(figures.figures)
app.command()(report.report)
app.command()(experiments.train)
app.command()(experiments.runs)
app.command()(experiments.publish)
app.command("eval")(models.evaluate_weights)
app.command()(models.predict)
app.command()(models.submit)
app.command()(compare.compare)
app.command()(bench.bench)
app.command()(weights.convert)
app.command()(weights.export)
app.command()(listing.models)
app.command()(listing.profiles)

data_app = typer.Typer(no_args_is_help=True, help="Make, check, convert to and fetch COCO format.")
data_app.command()(data.scenes)
data_app.command()(data.check)
data_app.command()(data.convert)
data_app.command()(data.coco)
data_app.command()(data.nuclei)
app.add_typer(data_app, name="data")


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"b2inst {b2inst.__version__}")
        raise typer.Exit


@app.callback()
def _settings(
    version: Annotated[  # its callback does all
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"


__all__ = ["app"]
