"""``b2inst bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from b2inst.cli.errors import check_new
from b2inst.cli.options import (
    DeviceOption,
    OverwriteOption,
    PrecisionOption,
    SkipBadOption,
    parse_options,
)


def bench(
    models: Annotated[
        list[str], typer.Argument(help="Names such as blendmask-r50, or weights files.")
    ],
    size: Annotated[
        str | None,
        typer.Option("--size", help="HxW to fit images into (default: the model's own)."),
    ] = None,
    images: Annotated[
        int | None, typer.Option("--images", min=1, help="How many (default: 50; GPU: 200).")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="COCO-format folder (default: scenes).")
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Split of --data.")] = "val",
    skip_bad: SkipBadOption = False,
    detections: Annotated[
        int, typer.Option("--detections", min=1, help="An image, where weights are untrained.")
    ] = 100,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", help="Of named models, as NAME=YAML, such as attention_size=14."),
    ] = None,
    device: DeviceOption = None,
    precision: PrecisionOption = "float32",
    compiled: Annotated[bool, typer.Option("--compile", help="By torch.compile.")] = False,
    json: Annotated[Path | None, typer.Option("--json", help="Also write a JSON file.")] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Time models from image to full-size masks, by stage.

    A B2Inst is timed beside its baseline.
    """

    from b2inst.benchmark import benchmark, coco_samples, composed_samples, to_text
    from b2inst.experiments.runs.provenance import describe_machine
    from b2inst.experiments.runs.store import write_json
    from b2inst.inference import resolve_device

    limits = _parse_size(size)
    if json is not None:
        check_new(json, overwrite=overwrite)
    options = parse_options(option)
    where = resolve_device(device or "auto")
    count = images or (200 if where.startswith("cuda") else 50)
    result = benchmark(
        models,
        options=options,
        size=limits,
        samples=(
            composed_samples(count)
            if data is None
            else coco_samples(data, split, count, skip_bad=skip_bad)
        ),
        image_source="procedural scenes" if data is None else split,
        detections=detections,
        device=where,
        precision=precision,
        compiled=compiled,
    )
    typer.echo(to_text(result))
    if json is not None:
        write_json(json, result.to_json() | {"provenance": describe_machine()})
        typer.echo(f"{json}: the same with stages and provenance")


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.lower().replace("×", "x").partition("x")
    if not (height.isdigit() and width.isdigit() and min(int(height), int(width)) >= 32):
        raise typer.BadParameter(f"--size {text}: write HEIGHTxWIDTH, such as 800x1333")
    return int(height), int(width)
