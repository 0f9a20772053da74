"""``b2inst data …``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from b2inst.cli.options import (
    AnnotationsOption,
    CrowdsAsInstancesOption,
    ImagesOption,
    SkipBadOption,
)


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
    crowds_as_instances: CrowdsAsInstancesOption = False,
) -> None:
    """Read a data set to its last image, and print a report.

    Exit status 1: something is wrong.
    """
    from b2inst.data import check_coco

    report = check_coco(
        folder,
        split=split,
        annotation_file=annotations,
        image_dir=images,
        crowds_as_instances=crowds_as_instances,
    )
    typer.echo(report)
    if not report.ok:
        raise typer.Exit(1)


def convert(
    source: Annotated[Path, typer.Argument(help="Folder of the data set, or its YAML file.")],
    out: Annotated[Path, typer.Argument(help="COCO-format folder to write.")],
    layout: Annotated[
        Literal["yolo", "labelmap"],
        typer.Option("--from", help="YOLO segmentation, or a mask of whole numbers per image."),
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Class of label maps.  [default: object]")
    ] = None,
    components: Annotated[
        bool,
        typer.Option("--components", help="Masks are binary; each connected region is an object."),
    ] = False,
    skip_bad: SkipBadOption = False,
) -> None:
    """Write a YOLO or label-map data set in COCO format."""
    from b2inst.data import convert_label_maps, convert_yolo

    if layout == "labelmap":
        done = convert_label_maps(
            source, out, name=name or "object", components=components, skip_bad=skip_bad
        )
    elif name is not None or components:
        raise typer.BadParameter("--name and --components go with --from labelmap")
    else:
        done = convert_yolo(source, out, skip_bad=skip_bad)
    typer.echo(done)


def coco(
    folder: Annotated[Path, typer.Argument(help="Folder to fetch to.")],
    splits: Annotated[str, typer.Option("--splits", help="Of train,val,test.")] = "train,val",
    mirror: Annotated[
        str | None, typer.Option("--mirror", help="Address that has the same files as COCO's site.")
    ] = None,
    keep_zips: Annotated[
        bool, typer.Option("--keep-zips", help="Leave the archives beside what was in them.")
    ] = False,
) -> None:
    """Fetch COCO 2017 and verify it; rerun to resume."""
    from b2inst.data import fetch_coco
    from b2inst.data.coco_fetch import SITE

    names, address = splits.split(","), mirror or SITE
    for file in fetch_coco(folder, splits=names, mirror=address, keep_zips=keep_zips):
        typer.echo(file)


def nuclei(
    folder: Annotated[Path, typer.Argument(help="Folder to make.")],
    archive: Annotated[
        Path | None, typer.Option("--archive", help="The archive, if it is there already.")
    ] = None,
    mirror: Annotated[
        str | None, typer.Option("--mirror", help="Address in the place of https://github.com.")
    ] = None,
) -> None:
    """Fetch 664 microscopy images of nuclei; run again to resume."""
    from b2inst.data import fetch_nuclei
    from b2inst.data.nuclei import SITE

    if archive is not None and mirror is not None:
        raise typer.BadParameter("--archive fetches nothing; leave out --mirror")
    for file in fetch_nuclei(folder, archive=archive, mirror=mirror or SITE):
        typer.echo(file)
