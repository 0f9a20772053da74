"""Options that several commands have, and how their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from b2inst.data import CocoIndex
    from b2inst.experiments import CocoData

Split = Literal["train", "val", "test"]

DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="COCO-format folder to use instead of the profile's data."),
]
TrainSplitOption = Annotated[
    str | None,
    typer.Option("--train-split", help="Split of --data to train on, or ANNOTATIONS.json:FOLDER."),
]
ValSplitOption = Annotated[
    str | None,
    typer.Option("--val-split", help="Split of --data to evaluate on, or ANNOTATIONS.json:FOLDER."),
]
# Where nothing is trained there is no other split that --split could mean.
SplitOption = Annotated[
    str | None,
    typer.Option(
        "--split",
        "--val-split",
        help="Split of --data, or ANNOTATIONS.json:FOLDER (default: the one train validates on).",
    ),
]
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out bad images and annotations, and list them.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace output files that are there.")
]
CrowdsAsInstancesOption = Annotated[
    bool,
    typer.Option("--crowds-as-instances", help="Read annotations of iscrowd 1 as single objects."),
]
ValFractionOption = Annotated[
    float | None,
    typer.Option(
        "--val-fraction",
        min=0.01,
        max=0.9,
        help="Share of the training images of --data to hold out for validation, such as 0.2.",
    ),
]
BoundaryPixelsOption = Annotated[
    int | None,
    typer.Option(
        "--boundary-pixels", min=1, help="Width of boundaries (default: 2 % of the diagonal)."
    ),
]
ProfileOption = Annotated[str, typer.Option("--profile", help="Profile, or path of its YAML file.")]
BatchSizeOption = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        help="Images an iteration, over all GPUs; learning rate and iterations follow.",
    ),
]
StartOption = Annotated[
    Path | None,
    typer.Option("--start", help="Weights to start from: of a model, or detectron2's R-50.pkl."),
]
MaxDetectionsOption = Annotated[
    int | None,
    typer.Option(
        "--max-detections", min=1, help="Of an image (default: the model's own; COCO's 100)."
    ),
]
TileOption = Annotated[
    int | None,
    typer.Option(
        "--tile", min=160, help="Cut images into tiles of so many pixels a side, to save memory."
    ),
]
PrecisionOption = Annotated[
    Literal["auto", "float32", "bfloat16"],
    typer.Option(
        "--precision", help="Of the network; auto is bfloat16 where the device is made for it."
    ),
]
DeviceOption = Annotated[str | None, typer.Option("--device", help="cpu, cuda (default: auto).")]
DevicesOption = Annotated[
    int | None, typer.Option("--devices", min=1, help="GPUs of a run; on a CPU, processes.")
]
MachinesOption = Annotated[
    int | None, typer.Option("--machines", min=1, help="Machines of a run; with --launcher slurm.")
]
LauncherOption = Annotated[
    Literal["local", "slurm"],
    typer.Option("--launcher", help="slurm: each missing run is a job of an array."),
]
SlurmOption = Annotated[
    list[str] | None,
    typer.Option("--slurm", help="Options of sbatch, such as partition=gpu,time=24:00:00."),
]

RecomputeOption = Annotated[
    bool, typer.Option("--recompute", help="Train with less memory and more time; same numbers.")
]


def coco_data(
    data: Path | None,
    *,
    train: str | None = None,
    val: str | None = None,
    skip_bad: bool = False,
    crowds_as_instances: bool = False,
    val_fraction: float | None = None,
    training: bool = True,
) -> CocoData | None:
    """The COCO-format folder that the options name, if they name one."""
    from b2inst.experiments import coco_folder

    if data is None:
        if train or val or skip_bad or crowds_as_instances or val_fraction:
            raise typer.BadParameter(
                "--train-split, --val-split, --val-fraction, --skip-bad and --crowds-as-instances "
                "go with --data"
            )
        return None
    return coco_folder(
        data,
        train=train,
        val=val,
        skip_bad=skip_bad,
        crowds_as_instances=crowds_as_instances,
        val_fraction=val_fraction,
        training=training,
    )


def profile_name(profile: str, batch_size: int | None) -> str:
    """The profile in batches of this size, by name."""
    return profile if batch_size is None else f"{profile}-batch{batch_size}"


def parse_seeds(text: str | None) -> tuple[int, ...] | None:
    """Seeds from ``0,1,2``."""
    if text is None:
        return None
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise typer.BadParameter(f"--seeds {text}: give different numbers from 0 on, as 0,1,2")
    return seeds


def parse_options(pairs: list[str] | None) -> dict[str, Any]:
    """Model options from ``NAME=YAML``."""
    import yaml

    options = {}
    for pair in pairs or []:
        name, found, value = pair.partition("=")
        try:
            options[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            found = ""
        if not found:
            raise typer.BadParameter(f"--option {pair}: write NAME=VALUE, the value as YAML")
    return options


def parse_slurm(texts: list[str] | None) -> dict[str, str | int | bool] | None:
    """Options of sbatch from ``NAME=VALUE,NAME``; None where there are none."""
    parts = [part.partition("=") for text in texts or [] for part in text.split(",")]
    return {name: value if equals else True for name, equals, value in parts} or None


def read_split(
    data: Path | None,
    *,
    annotations: Path | None = None,
    images: Path | None = None,
    with_images: bool = True,
    train: str | None = None,
    val: str | None = None,
    val_fraction: float | None = None,
    skip_bad: bool = False,
    crowds_as_instances: bool = False,
) -> CocoIndex:
    """The files of --annotations and --images, or the split of --data that ``train`` validates on.

    Says what of it is read in another way than the file has it.

    Args:
        with_images: False where the annotations alone are used.
    """
    from b2inst.data import CocoIndex, hold_out, verify_images

    given = annotations is not None and (images is not None or not with_images)
    chosen = coco_data(
        None if given else data, train=train, val=val, val_fraction=val_fraction, training=False
    )
    if not given:
        if chosen is None:
            raise typer.BadParameter(
                "give --data, or both --annotations and --images"
                if with_images
                else "give --data or --annotations"
            )
        annotations = chosen.annotation_file("val")
        images = chosen.files("val")[1] if with_images else None
    assert annotations is not None
    index = CocoIndex.load(
        annotations,
        images if with_images else None,
        skip_bad=skip_bad,
        crowds_as_instances=crowds_as_instances,
    )
    if skip_bad and with_images:
        index = verify_images(index, skip_bad=True)
    for line in (*index.notes, *index.skipped):
        typer.echo(f"note: {line}", err=True)
    return index if val_fraction is None else hold_out(index, val_fraction)[1]


AnnotationsOption = Annotated[
    Path | None, typer.Option("--annotations", help="Annotation file, for another layout.")
]
ImagesOption = Annotated[
    Path | None, typer.Option("--images", help="Image folder, for another layout.")
]
