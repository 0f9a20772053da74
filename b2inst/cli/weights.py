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
        Literal["adelaidet", "detectron2", "yolact"],
        typer.Option("--from", help="Who published it."),
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
    int8: Annotated[
        bool, typer.Option("--int8", help="Convolutions in 8-bit integers; needs --calibrate.")
    ] = False,
    calibrate: Annotated[
        str | None,
        typer.Option(
            "--calibrate",
            metavar="DATA[:SPLIT]",
            help="Real images for --int8: a COCO-format folder (split: train), or one of images.",
        ),
    ] = None,
    calibration_images: Annotated[
        int, typer.Option("--calibration-images", min=1, help="At most, evenly spaced.")
    ] = 128,
    overwrite: OverwriteOption = False,
) -> None:
    """Write weights for ONNX Runtime or OpenVINO.

    For eval, predict, submit and load_model.
    """
    if int8 != (calibrate is not None):
        raise typer.BadParameter("--int8 and --calibrate DATA go together")
    from b2inst.export import calibration_files, export_model

    files = None if calibrate is None else calibration_files(calibrate, most=calibration_images)
    path = export_model(weights, out, to=to, calibration=files, overwrite=overwrite)
    size = sum(file.stat().st_size for file in (path, path.with_suffix(".bin")) if file.is_file())
    kind = "float32" if files is None else f"int8, calibrated on {len(files)} images"
    typer.echo(f"{path}: for {to}, {kind}, {size / 1e6:.1f} MB")


def _class_names(names: str) -> list[str]:
    parts = names.split(",")
    if len(parts) == 1 and Path(names).is_file():
        parts = Path(names).read_text("utf-8-sig").splitlines()
    return [part.strip() for part in parts if part.strip()]
