"""``b2inst convert`` and ``b2inst export``."""

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
            "--names", help="Its classes in order, as a,b,c, or a text file with one a line."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a published checkpoint as weights of ours.

    For eval, predict and train --start.
    """
    from b2inst.weights.convert import convert

    classes = None if names is None else _class_names(names)
    typer.echo(convert(source, out, publisher=publisher, names=classes, overwrite=overwrite))


def export(
    weights: Annotated[Path, typer.Argument(help="model.safetensors")],
    to: Annotated[Literal["onnx", "openvino"], typer.Option("--to", help="What will run it.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="File, .onnx or .xml (default: beside WEIGHTS).")
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write weights for ONNX Runtime or OpenVINO.

    For eval, predict and load_model.
    """
    from b2inst.export import export_model

    path = export_model(weights, out, to=to, overwrite=overwrite)
    size = sum(file.stat().st_size for file in (path, path.with_suffix(".bin")) if file.is_file())
    typer.echo(f"{path}: for {to}, {size / 1e6:.1f} MB")


def _class_names(names: str) -> list[str]:
    parts = names.split(",")
    if len(parts) == 1 and Path(names).is_file():
        parts = Path(names).read_text("utf-8-sig").splitlines()
    return [part.strip() for part in parts if part.strip()]
