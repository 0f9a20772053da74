"""``b2inst verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def verify(
    folder: Annotated[Path, typer.Argument(help="Folder of reference fixtures.")],
    case: Annotated[str, typer.Argument(help="Case, such as blendmask_attn14_seed0.")],
) -> None:
    """Compare with a published implementation, number for number.

    Exit status 1: something differs.
    """
    from b2inst.verification import report, summary
    from b2inst.verification import verify as compare

    comparisons = compare(folder, case, lambda step: typer.echo(f"{case}: {step} …", err=True))
    typer.echo(report(comparisons))
    typer.echo(summary(case, comparisons))
    if not all(comparison.passed for comparison in comparisons):
        raise typer.Exit(1)
