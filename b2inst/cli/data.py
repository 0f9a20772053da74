"""``b2inst data …``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from b2inst.cli.options import AnnotationsOption, ImagesOption


def scenes(
    folder: Annotated[Path, typer.Argument(help="Folder to write to.")],
    images: Annotated[int, typer.Option("--images", min=1, help="How many.")],
    size: Annotated[int, typer.Option("--size", min=32, help="Side in pixels.")] = 96,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    split: Annotated[str, typer.Option("--split", help="Name of the split.")] = "train",
) -> None:
    """Write procedural scenes in COCO format."""
    from b2inst.data import write_scenes

    typer.echo(write_scenes(folder, split=split, images=images, size=size, seed=seed))


def check(
    folder: Annotated[Path | None, typer.Argument(help="COCO-format folder.")] = None,
    split: Annotated[str | None, typer.Option("--split", help="Only this one.")] = None,
    annotations: AnnotationsOption = None,
    images: ImagesOption = None,
) -> None:
    """Read a data set to its last image, and print a report; exit 1 if something is wrong."""
    from b2inst.data import check_coco

    report = check_coco(folder, split=split, annotation_file=annotations, image_dir=images)
    typer.echo(report)
    if not report.ok:
        raise typer.Exit(1)
