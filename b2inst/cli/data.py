"""``b2inst data …``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from b2inst import data
from b2inst.cli import options as opt


def scenes(
    folder: Annotated[Path, Argument(help="Folder to write to.")],
    images: Annotated[int, Option(min=1, help="Number of images.")],
    size: Annotated[int, Option(min=32, help="Side of an image in pixels.")] = 96,
    seed: Annotated[int, Option(min=0, help="Random seed.")] = 0,
    split: Annotated[str, Option(help="Name of the split.")] = "train",
) -> None:
    """Write procedural scenes in COCO format."""
    typer.echo(data.write_scenes(folder, split=split, images=images, size=size, seed=seed))


def check(
    folder: Annotated[Path, Argument(help="Folder with COCO-format data.")] = Path(),
    split: Annotated[
        str | None, Option(help="Split, or ANNOTATIONS.json:IMAGES (default: all).")
    ] = None,
    crowds_as_instances: opt.CrowdsAsInstances = False,
) -> None:
    """Check all annotations and images of a data set.

    The exit status is 1 if any problem is found.
    """
    report = data.check_coco(folder, split=split, crowds_as_instances=crowds_as_instances)
    typer.echo(report)
    if not report.ok:
        raise typer.Exit(1)


def convert(
    source: Annotated[Path, Argument(help="Folder of the data set, or its YAML file.")],
    out: Annotated[Path, Argument(help="Folder to write.")],
    layout: Annotated[
        Literal["yolo", "labelmap"],
        Option("--from", help="Format: YOLO segmentation, or instance masks as images."),
    ],
    name: Annotated[str | None, Option(help="Class name for label maps (default: object).")] = None,
    components: Annotated[
        bool, Option("--components", help="Split binary masks into objects.")
    ] = False,
    skip_bad: opt.SkipBad = False,
) -> None:
    """Convert YOLO segmentation or label maps to COCO format."""
    if layout == "labelmap":
        done = data.convert_label_maps(
            source, out, name=name or "object", components=components, skip_bad=skip_bad
        )
    elif name is not None or components:
        raise typer.BadParameter("--name and --components need --from labelmap")
    else:
        done = data.convert_yolo(source, out, skip_bad=skip_bad)
    typer.echo(done)


def coco(
    folder: Annotated[Path, Argument(help="Folder to download to.")],
    splits: Annotated[str, Option(help="Any of train,val,test.")] = "train,val",
    mirror: Annotated[str | None, Option(help="Address of a mirror of COCO's site.")] = None,
    keep_zips: Annotated[bool, Option("--keep-zips", help="Keep the archives.")] = False,
) -> None:
    """Download COCO 2017 and verify it; rerun to resume."""
    from b2inst.data.coco_fetch import SITE

    names, address = splits.split(","), mirror or SITE
    for file in data.fetch_coco(folder, splits=names, mirror=address, keep_zips=keep_zips):
        typer.echo(file)


def nuclei(
    folder: Annotated[Path, Argument(help="Folder to write.")],
    archive: Annotated[Path | None, Option(help="Local copy of the archive.")] = None,
    mirror: Annotated[
        str | None, Option(help="Address to use instead of https://github.com.")
    ] = None,
) -> None:
    """Download 664 microscopy images of nuclei; rerun to resume."""
    from b2inst.data.nuclei import SITE

    if archive is not None and mirror is not None:
        raise typer.BadParameter("--archive downloads nothing: leave out --mirror")
    for file in data.fetch_nuclei(folder, archive=archive, mirror=mirror or SITE):
        typer.echo(file)
