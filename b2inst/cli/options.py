"""Options that several commands have, and how their values are read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import yaml

if TYPE_CHECKING:
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
SkipBadOption = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out bad images and annotations, and list them.")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace output files that are there.")
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

ChannelsLastOption = Annotated[
    bool, typer.Option("--channels-last", help="Quicker convolutions, which round differently.")
]
RecomputeOption = Annotated[
    bool, typer.Option("--recompute", help="Train with less memory and more time; same numbers.")
]


def coco_data(
    data: Path | None, train: str | None, val: str | None, skip_bad: bool
) -> CocoData | None:
    """The COCO-format folder that the options name, if they name one."""
    from b2inst.experiments import coco_folder

    if data is None:
        if train or val or skip_bad:
            raise typer.BadParameter("--train-split, --val-split and --skip-bad go with --data")
        return None
    return coco_folder(data, train=train, val=val, skip_bad=skip_bad)


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


AnnotationsOption = Annotated[
    Path | None, typer.Option("--annotations", help="Annotation file, for another layout.")
]
ImagesOption = Annotated[
    Path | None, typer.Option("--images", help="Image folder, for another layout.")
]
