"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Option

from b2inst import experiments
from b2inst.data.wording import folded

if TYPE_CHECKING:
    from b2inst.data import CocoIndex
    from b2inst.experiments import CocoData, Profile, Workspace

SkipBad = Annotated[bool, Option("--skip-bad", help="Skip and list bad images and objects.")]
CrowdsAsInstances = Annotated[
    bool, Option("--crowds-as-instances", help="Treat annotations with iscrowd=1 as objects.")
]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace existing output files.")]
ProfileName = Annotated[str, Option(help="Name of a profile, or path to its YAML file.")]
ModelOptions = Annotated[list[str] | None, Option(help="Model option as NAME=YAML; repeatable.")]
Device = Annotated[str, Option(help="Device: cpu, cuda or auto.")]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16"], Option(help="auto: bfloat16 where that is fast.")
]
MaxDetections = Annotated[
    int | None, Option(min=1, help="Maximum per image (default: the model's, usually 100).")
]
BoundaryPixels = Annotated[
    int | None, Option(min=1, help="Boundary width (default: 2 % of the image diagonal).")
]


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take dataclasses of options, whose fields become options of the command."""
    parameters = inspect.signature(command, eval_str=True).parameters
    fields = {
        name: inspect.signature(parameter.annotation, eval_str=True).parameters
        for name, parameter in parameters.items()
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)
    }

    @wraps(command)
    def flat(**values: Any) -> None:
        for name, own in fields.items():
            group = parameters[name].annotation
            values[name] = group(**{field: values.pop(field) for field in own})
        command(**values)

    vars(flat)["__signature__"] = inspect.Signature(
        [
            option.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, parameter in parameters.items()
            for option in fields.get(name, {name: parameter}).values()
        ]
    )
    return flat


@dataclass(frozen=True, kw_only=True)
class _DataOptions:
    data: Annotated[Path | None, Option(metavar="DIR", help="COCO-format folder.")] = None
    train: Annotated[
        str | None, Option("--train-split", help="Training split, or ANNOTATIONS.json:IMAGES.")
    ] = None
    val_fraction: Annotated[
        float | None, Option(min=0.01, max=0.9, help="Fraction of training images to hold out.")
    ] = None
    skip_bad: SkipBad = False
    crowds_as_instances: CrowdsAsInstances = False


@dataclass(frozen=True, kw_only=True)
class DataOptions(_DataOptions):
    """Data to train on, or that a model was trained on."""

    val: Annotated[
        str | None, Option("--val-split", help="Validation split, or ANNOTATIONS.json:IMAGES.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class SplitOptions(_DataOptions):
    """A split of images."""

    val: Annotated[  # without training, there is no other split that --split could mean
        str | None, Option("--split", "--val-split", help="Split, or ANNOTATIONS.json:IMAGES.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The profile of runs, and what is changed of it."""

    profile: ProfileName = "tiny"
    start: Annotated[Path | None, Option(help="Weights file to start from, or R-50.pkl.")] = None
    batch_size: Annotated[int | None, Option(min=1, help="Batch size; scales the schedule.")] = None
    device: Annotated[str | None, Option(help="cpu, cuda, auto (default: the profile's).")] = None
    devices: Annotated[int | None, Option(min=1, help="GPUs or CPU processes per run.")] = None
    recompute: Annotated[bool, Option("--recompute", help="Save memory, but take longer.")] = False

    @property
    def profile_name(self) -> str:
        """Name of the profile with this batch size."""
        size = self.batch_size
        return self.profile if size is None else f"{self.profile}-batch{size}"

    def load(self, data: CocoData | None, workspace: Workspace, **machine: Any) -> Profile:
        """The profile on these data, with the batch size, weights and use of the machine given."""
        profile = experiments.load_profile(
            self.profile_name, data=data, start=self.start, workspace=workspace
        )
        machine |= {"device": self.device, "devices": self.devices, "recompute": self.recompute}
        given = {name: value for name, value in machine.items() if value}
        return profile.model_copy(update={"machine": profile.machine.model_copy(update=given)})


def coco_data(data: Path | None, **options: Any) -> CocoData | None:
    """The data of --data with the options that belong to it (``coco_folder``); None without it."""
    if data is not None:
        return experiments.coco_folder(data, **options)
    if any(options.values()):
        raise typer.BadParameter("options that select or read a split need --data")
    return None


def read_split(data: Path | None, *, with_images: bool = True, **options: Any) -> CocoIndex:
    """Read the validation split of --data; ``options`` are those of ``coco_folder``.

    Prints what was skipped, and how the annotation file deviates from COCO's format. Images are
    not needed if only the annotations are used, and none are held out.
    """
    from b2inst.data import CocoIndex, hold_out, verify_images

    given = coco_data(data, **options, training=False)
    if given is None:
        raise typer.BadParameter("give --data")
    with_images = with_images or given.val_fraction is not None  # as training read them
    file, images = given.files("val", with_images=with_images)
    crowds, skip_bad = given.crowds_as_instances, given.skip_bad
    folder = images if with_images else None
    index = CocoIndex.load(file, folder, skip_bad=skip_bad, crowds_as_instances=crowds)
    if skip_bad and with_images:
        index = verify_images(index, skip_bad=True)
    for line in (*index.notes, *folded(index.skipped)):
        typer.echo(f"note: {line}", err=True)
    return index if given.val_fraction is None else hold_out(index, given.val_fraction)[1]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from ``0,1,2``."""
    seeds = [int(part) if part.isdecimal() else -1 for part in text.split(",")]
    if not 0 <= min(seeds) <= max(seeds) < 2**32 or len(set(seeds)) < len(seeds):
        hint = "give different whole numbers below 2**32, such as 0,1,2"
        raise typer.BadParameter(f"--seeds {text}: {hint}")
    return tuple(seeds)


def parse_options(pairs: list[str] | None) -> dict[str, Any]:
    """Model options from ``NAME=YAML``."""
    import yaml

    try:
        split = [pair.split("=", 1) for pair in pairs or []]
        options = {name: yaml.safe_load(value) for name, value in split}
    except (ValueError, yaml.YAMLError):
        raise typer.BadParameter(f"--option {pairs}: write NAME=VALUE, the value as YAML") from None
    if of_data := options.keys() & {"name", "num_classes", "class_names"}:
        raise typer.BadParameter(f"--option {', '.join(sorted(of_data))}: is set by the data")
    return options


def parse_slurm(texts: list[str] | None) -> dict[str, str | bool] | None:
    """Options of sbatch from ``NAME=VALUE,NAME``; None if there are none."""
    parts = [part.partition("=") for part in ",".join(texts or []).split(",") if part]
    return {name: value if equals else True for name, equals, value in parts} or None
