"""``b2inst convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from b2inst.cli.options import OverwriteOption


def convert(
    source: Annotated[Path, typer.Argument(help="Published checkpoint, .pth or .pkl.")],
    out: Annotated[Path, typer.Argument(help="Weights file to write, .safetensors.")],
    publisher: Annotated[
        Literal["adelaidet", "yolact"], typer.Option("--from", help="Who published it.")
    ],
    names: Annotated[
        str | None,
        typer.Option(
            "--names",
            help="Class names with commas between them, or a text file with one in each line, in "
            "the order that the model was trained with (default: COCO's, if there are 80 classes).",
        ),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a published checkpoint as weights of ours, for eval, predict and train --start."""
    from b2inst.weights.convert import convert

    class_names = None if names is None else _parse_names(names)
    typer.echo(
        convert(source, out, publisher=publisher, class_names=class_names, overwrite=overwrite)
    )


def _parse_names(text: str) -> list[str]:
    """Class names from ``a,b,c``, or from the lines of a file; blanks around them are dropped."""
    try:
        lines = Path(text).read_text(encoding="utf-8-sig").strip().splitlines()
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"--names {text}: not UTF-8 text ({error})") from None
    except (OSError, ValueError):  # no file, and names may make no path
        lines = text.split(",")
    names = [line.strip() for line in lines]
    if not all(names):
        raise typer.BadParameter(f"--names {text}: name {names.index('') + 1} is empty")
    return names
