"""``make verify REFERENCE=DIR CASE=NAME``: our models against published numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reference import report, summary, verify

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    folder: Annotated[Path, typer.Argument(help="Folder of the reference fixtures.")],
    case: Annotated[str, typer.Argument(help="Case, such as blendmask_attn14_seed0.")],
) -> None:
    """Compare our model with a published implementation, number for number.

    Exit status 1: something differs.
    """
    try:
        found = verify(folder, case, lambda step: typer.echo(f"{case}: {step} …", err=True))
    except ValueError as error:  # unusable fixtures or weights
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(report(found))
    typer.echo(summary(case, found))
    if not all(comparison.passed for comparison in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
