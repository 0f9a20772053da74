"""``b2inst bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from b2inst.cli.errors import check_new
from b2inst.cli.options import (
    DeviceOption,
    ModelOption,
    OverwriteOption,
    PrecisionOption,
    SplitOptions,
    parse_options,
    read_split,
    with_groups,
)


@with_groups
def bench(
    models: Annotated[list[str], Argument(help="Model names or weights files.")],
    split: SplitOptions,
    size: Annotated[
        str | None, Option(help="HEIGHTxWIDTH to fit images into (default: the model's).")
    ] = None,
    count: Annotated[
        int | None, Option("--images", min=1, help="Number of images (default: 50, on a GPU 200).")
    ] = None,
    detections: Annotated[
        int, Option(min=1, help="Detections per image of untrained models.")
    ] = 100,
    option: ModelOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "float32",
    compiled: Annotated[
        bool, Option("--compile", help="Use torch.compile for backbone and heads.")
    ] = False,
    json: Annotated[Path | None, Option(help="JSON file to write.")] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Measure the speed of models, by stage.

    Times one image at a time, from the image to full-size masks. Without --data, images are
    procedural scenes. A B2Inst model is compared with its baseline if both are given.
    """
    from b2inst.benchmark import benchmark, composed_samples, index_samples, to_text
    from b2inst.experiments.runs.provenance import describe_machine
    from b2inst.experiments.runs.store import write_json
    from b2inst.inference import resolve_device

    limits = _parse_size(size)
    if json is not None:
        check_new(json, overwrite=overwrite)
    options = parse_options(option)
    device = resolve_device(device)
    count = count or (200 if device.startswith("cuda") else 50)
    if split.data is None:
        samples, source = composed_samples(count), "procedural scenes"
    else:
        index = read_split(**vars(split)).require_instances()
        samples, source = index_samples(index.annotated(), count), index.image_dir.name
    result = benchmark(
        models,
        options=options,
        size=limits,
        samples=samples,
        image_source=source,
        detections=detections,
        device=device,
        precision=precision,
        compiled=compiled,
    )
    typer.echo(to_text(result))
    if json is not None:
        write_json(json, result.to_json() | {"provenance": describe_machine()})
        typer.echo(f"{json}: results and provenance")


def _parse_size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, _, width = text.lower().replace("×", "x").partition("x")
    if not (height.isdigit() and width.isdigit() and min(int(height), int(width)) >= 32):
        raise typer.BadParameter(f"--size {text}: write HEIGHTxWIDTH, such as 800x1333")
    return int(height), int(width)
