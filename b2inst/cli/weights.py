"""``b2inst convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def convert(
    source: Annotated[Path, typer.Argument(help="Published checkpoint, .pth or .pkl.")],
    out: Annotated[Path, typer.Argument(help="Weights file to write, .safetensors.")],
    publisher: Annotated[
        Literal["adelaidet", "yolact"], typer.Option("--from", help="Who published it.")
    ],
) -> None:
    """Write a published checkpoint as weights of ours, for eval, predict and train --start."""
    from b2inst.weights.convert import convert

    typer.echo(convert(source, out, publisher=publisher))
