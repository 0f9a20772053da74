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

if TYPE_CHECKING:
    from b2inst.data import CocoIndex
    from b2inst.experiments import CocoData, Profile, Resources, Workspace

SkipBadOption = Annotated[
    bool, Option("--skip-bad", help="Skip and list invalid images and annotations.")
]
CrowdsAsInstancesOption = Annotated[
    bool, Option("--crowds-as-instances", help="Treat annotations with iscrowd=1 as objects.")
]
OverwriteOption = Annotated[bool, Option("--overwrite", help="Replace existing output files.")]
AnnotationsOption = Annotated[Path | None, Option(help="Annotation file, instead of a folder.")]
ImagesOption = Annotated[Path | None, Option(help="Image folder, with --annotations.")]
ProfileOption = Annotated[str, Option(help="Name of a profile, or path to its YAML file.")]
ModelOption = Annotated[
    list[str] | None,
    Option(help="Model option as NAME=YAML, such as scoring=[iou]; repeatable."),
]
DeviceOption = Annotated[str, Option(help="Device: cpu, cuda or auto.")]
PrecisionOption = Annotated[
    Literal["auto", "float32", "bfloat16"],
    Option(help="Precision of the network; auto: bfloat16 if the device is fast at it."),
]
MaxDetectionsOption = Annotated[
    int | None,
    Option(min=1, help="Maximum detections per image (default: the model's, usually 100)."),
]
BoundaryPixelsOption = Annotated[
    int | None,
    Option(min=1, help="Boundary width in pixels (default: 2 % of the image diagonal)."),
]
BatchOption = Annotated[int, Option(min=1, help="Images that are predicted together.")]


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take dataclasses of options, whose fields become options of the command."""
    signature = inspect.signature(command, eval_str=True)
    groups: dict[str, Any] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if is_dataclass(parameter.annotation)
    }
    own = {name: inspect.signature(group, eval_str=True) for name, group in groups.items()}

    @wraps(command)
    def flat(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field: values.pop(field) for field in own[name].parameters})
        command(**values)

    vars(flat)["__signature__"] = inspect.Signature(
        [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for name, given in signature.parameters.items()
            for parameter in (own[name].parameters.values() if name in groups else [given])
        ]
    )
    return flat


@dataclass(frozen=True, kw_only=True)
class _DataOptions:
    data: Annotated[Path | None, Option(metavar="DIR", help="COCO-format folder.")] = None
    train: Annotated[
        str | None,
        Option("--train-split", help="Training split, or ANNOTATIONS.json:IMAGE_FOLDER."),
    ] = None
    val_fraction: Annotated[
        float | None,
        Option(min=0.01, max=0.9, help="Fraction of the training images to validate on."),
    ] = None
    skip_bad: SkipBadOption = False


@dataclass(frozen=True, kw_only=True)
class DataOptions(_DataOptions):
    """Data to train on, or that a model was trained on."""

    val: Annotated[
        str | None,
        Option("--val-split", help="Validation split, or ANNOTATIONS.json:IMAGE_FOLDER."),
    ] = None
    crowds_as_instances: CrowdsAsInstancesOption = False

    def coco_data(self) -> CocoData | None:
        """The data of --data; None without it."""
        return coco_data(**vars(self))


@dataclass(frozen=True, kw_only=True)
class SplitOptions(_DataOptions):
    """A split of images."""

    val: Annotated[  # without training, there is no other split that --split could mean
        str | None,
        Option(
            "--split",
            "--val-split",
            help="Split, or ANNOTATIONS.json:IMAGE_FOLDER (default: the validation split).",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class TruthOptions(SplitOptions):
    """A split with its annotations."""

    annotations: AnnotationsOption = None
    crowds_as_instances: CrowdsAsInstancesOption = False


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The profile of runs, and what is changed of it."""

    profile: ProfileOption = "tiny"
    start: Annotated[
        Path | None, Option(help="Weights to start from: a b2inst file or detectron2's R-50.pkl.")
    ] = None
    batch_size: Annotated[
        int | None, Option(min=1, help="Images per iteration; scales learning rate and schedule.")
    ] = None
    device: Annotated[
        str | None, Option(help="Device: cpu, cuda or auto (default: the profile's).")
    ] = None
    devices: Annotated[int | None, Option(min=1, help="GPUs per run, or processes on a CPU.")] = (
        None
    )
    recompute: Annotated[
        bool, Option("--recompute", help="Save memory by recomputing activations; slower.")
    ] = False

    @property
    def profile_name(self) -> str:
        """Name of the profile with this batch size."""
        size = self.batch_size
        return self.profile if size is None else f"{self.profile}-batch{size}"

    def load(self, data: CocoData | None, workspace: Workspace) -> Profile:
        """The profile on these data, with the batch size, weights and devices given."""
        from b2inst.experiments import load_profile

        profile = load_profile(self.profile_name, data=data, start=self.start, workspace=workspace)
        devices = {"device": self.device, "devices": self.devices, "recompute": self.recompute}
        return profile.model_copy(update={"machine": changed(profile.machine, **devices)})


def changed(machine: Resources, **given: Any) -> Resources:
    """Use of a machine, with what is given on the command line."""
    return machine.model_copy(update={k: v for k, v in given.items() if v})


def coco_data(data: Path | None, **options: Any) -> CocoData | None:
    """The data of --data with the options that belong to it (``coco_folder``); None without it."""
    from b2inst.experiments import coco_folder

    if data is not None:
        return coco_folder(data, **options)
    if any(options.values()):
        raise typer.BadParameter(
            "--train-split, --val-split, --val-fraction, --skip-bad and --crowds-as-instances "
            "need --data"
        )
    return None


def read_split(
    data: Path | None,
    *,
    annotations: Path | None = None,
    images: Path | None = None,
    with_images: bool = True,
    val_fraction: float | None = None,
    skip_bad: bool = False,
    crowds_as_instances: bool = False,
    **splits: str | None,
) -> CocoIndex:
    """Read the files of --annotations and --images, or the validation split of --data.

    Prints what was skipped, and how the annotation file deviates from COCO's format. Images are
    not needed if only the annotations are used, and none are held out. ``splits`` are the names
    ``train`` and ``val``.
    """
    from b2inst.data import CocoIndex, hold_out, verify_images

    given = annotations is not None and (images is not None or not with_images)
    chosen = coco_data(None if given else data, **splits, val_fraction=val_fraction, training=False)
    with_images = with_images or (val_fraction is not None and not given)  # as training read them
    if not given:
        if chosen is None:
            both = "both --annotations and --images" if with_images else "--annotations"
            raise typer.BadParameter(f"give --data, or {both}")
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


def parse_seeds(text: str | None) -> tuple[int, ...] | None:
    """Seeds from ``0,1,2``."""
    if text is None:
        return None
    seeds = [int(part) if part.isdecimal() else -1 for part in text.split(",")]
    if min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise typer.BadParameter(f"--seeds {text}: give different whole numbers, such as 0,1,2")
    return tuple(seeds)


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


def parse_slurm(texts: list[str] | None) -> dict[str, str | bool] | None:
    """Options of sbatch from ``NAME=VALUE,NAME``; None if there are none."""
    parts = [part.partition("=") for text in texts or [] for part in text.split(",")]
    return {name: value if equals else True for name, equals, value in parts} or None
