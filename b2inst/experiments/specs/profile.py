"""Profiles: at which scale experiments are run (``experiments/profiles/<name>.yaml``)."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, JsonValue, PositiveInt, field_validator, model_validator

from b2inst.data import DataError, find_splits
from b2inst.experiments.specs.data_spec import CocoData, DataSpec, coco_folder
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import (
    COCO_MAX_DETECTIONS,
    Augmentation,
    Precision,
    RunSpec,
    Seed,
    StartFile,
)
from b2inst.experiments.specs.table_spec import METRICS
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.specs.yaml_spec import Spec, did_you_mean, parse_spec, read_yaml
from b2inst.training import Schedule

Options = dict[str, JsonValue]


class OwnData(Spec):
    """What a profile changes when it is given a COCO-format folder instead of its scenes."""

    options: Options = Field(default_factory=dict)  #: those that differ
    augmentation: Augmentation
    env: str | None = None  #: environment variable that names such a folder


class Profile(Spec):
    """Data, model size, schedule and machine use that the rows of a table have in common."""

    name: str
    description: str = ""
    note: str | None = None  #: what a reader must know; shown under each table
    variant: str  #: the second half of a model's name: "tiny", "r50"
    #: The variants that rows may ask for, and what each is here: ``{r50: tiny}``. A row that asks
    #: for another is not run.
    variants: dict[str, str] = Field(default_factory=dict)
    options: Options = Field(default_factory=dict)  #: of each model, those that it has
    #: Families with a recipe of their own: options, augmentation, schedule and precision of another
    #: profile, whose name a file gives: ``{yolact: yolact-800k}``.
    recipes: dict[str, Profile] = Field(default_factory=dict)
    data: DataSpec
    own_data: OwnData | None = None
    augmentation: Augmentation
    #: Shorter sides that rows with multi-scale training draw from; by default as all others.
    multi_scale: tuple[PositiveInt, ...] = ()
    schedule: Schedule
    precision: Precision = "32-true"
    #: Weights that every run begins with: a file, or "required" if a call must name one.
    start: StartFile | Literal["required"] | None = None
    #: Per image, both found and evaluated; COCO's is 100.
    max_detections: PositiveInt = COCO_MAX_DETECTIONS
    columns: tuple[str, ...] = ()  #: of every table, besides its own
    #: Images that rows are timed on, at most (default: 50, on a GPU 200).
    timed_images: PositiveInt | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    machine: Resources = Resources()

    @field_validator("start", mode="before")
    @classmethod
    def _find_start(cls, value: Any) -> Any:
        found = value in (None, "required") or isinstance(value, StartFile)
        return value if found else StartFile.of(Path(str(value)))

    @model_validator(mode="after")
    def _makes_tables(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)}: give each one once")
        if unknown := [column for column in self.columns if column not in METRICS]:
            raise ValueError(f"unknown columns {unknown}; there are {', '.join(METRICS)}")
        return self

    def with_data(self, data: CocoData) -> Profile:
        """Return the same profile on a COCO-format folder."""
        if isinstance(self.data, CocoData):
            kept = {name: getattr(self.data, name) for name in ("area_bounds", "boundary_pixels")}
            with suppress(DataError):  # of another layout
                if data.root is not None and self.data.test in find_splits(data.root):
                    kept["test"] = self.data.test
            data = data.model_copy(update=kept)
        changed: dict[str, Any] = {"data": data}
        if (own := self.own_data) is not None:
            changed["options"] = {**self.options, **own.options}
            changed["augmentation"] = own.augmentation
        return self.model_copy(update=changed)

    def for_batch(self, size: int) -> Profile:
        """Return the same recipes in batches of ``size`` images (``Schedule.for_batch``)."""
        changed = {
            "name": f"{self.name}-batch{size}",
            "schedule": self.schedule.for_batch(size),
            "recipes": {family: own.for_batch(size) for family, own in self.recipes.items()},
        }
        return self.model_copy(update=changed)

    def size_of(self, variant: str | None) -> str | None:
        """Return what a variant that a row asks for is here; None if such rows are not run."""
        if variant is None:
            return self.variant
        return ({self.variant: self.variant} | self.variants).get(variant)

    def run_spec(self, family: str, options: Options, seed: int) -> RunSpec:
        """Describe the run of a model family at the profile's own size; see ``run_of``."""
        return self.run_of(f"{family}-{self.variant}", options, seed)

    def run_of(self, model: str, options: Options, seed: int) -> RunSpec:
        """Describe the run of a model, by its name in the catalog; options override the profile's.

        Models of the variants in ``PRETRAINED`` start from ImageNet weights by default. Weights to
        start from take their place, and decide options that belong to them (attention_size, …).
        """
        from b2inst.models import CATALOG, PRETRAINED, baseline_of, options_of  # import PyTorch

        if self.start == "required":
            raise SpecError(
                f"profile {self.name} starts from trained weights: name the file with --start, or "
                f"in a profile of your own (extends: {self.name}, start: FILE)"
            )
        family, _, variant = model.rpartition("-")
        recipe = self.recipes.get(baseline_of(family), self)
        chosen: Options = {"backbone_weights": "imagenet"} if variant in PRETRAINED else {}
        if self.max_detections != COCO_MAX_DETECTIONS:  # else the models' own
            chosen["max_detections"] = self.max_detections
        try:
            known = options_of(model)
        except ValueError as error:
            raise SpecError(str(error)) from None
        families = {baseline_of(name.rpartition("-")[0]) for name in CATALOG}
        if unknown := sorted(self.recipes.keys() - families):
            there = ", ".join(sorted(families))
            raise SpecError(f"profile {self.name}: recipes: no family {unknown}; there are {there}")
        names = set().union(*map(options_of, CATALOG))
        if unknown := sorted(recipe.options.keys() - names):
            hint = did_you_mean(unknown[0], names)
            raise SpecError(f"profile {recipe.name}: no model has options {unknown}{hint}")
        chosen |= {k: value for k, value in recipe.options.items() if k in known} | options
        if self.start is not None:
            from b2inst.weights.start import start_options

            of_weights = start_options(self.start.path)
            chosen |= {k: value for k, value in of_weights.items() if k in known} | options
            chosen.pop("backbone_weights", None)
        content = {
            "model": model,
            "options": chosen,
            "data": self.data,
            "augmentation": recipe.augmentation,
            "schedule": recipe.schedule,
            "precision": recipe.precision,
            "seed": seed,
            "start": self.start,
        }
        return parse_spec(RunSpec, content, source=f"profile {self.name}")


def profile_name(profile: str) -> str:
    """Return the name of a profile, which may be given by the path of its file."""
    return Path(profile).stem if profile.endswith((".yaml", ".yml")) else profile


def load_profile(
    name: str,
    *,
    data: CocoData | None = None,
    start: Path | None = None,
    workspace: Workspace | None = None,
) -> Profile:
    """Read a profile; a SpecError if it does not exist or is not valid.

    Args:
        name: Name ("tiny") or path of the YAML file; with ``-batch16``, in batches of 16 images.
        data: A COCO-format folder to use instead of the profile's own data.
        start: Weights that every run begins with, instead of the profile's own.
        workspace: Where all files are (default: the checkout of the current folder).
    """
    workspace = workspace or Workspace.here()
    batch = re.fullmatch(r"(.+)-batch([1-9][0-9]*)", name)
    path = workspace.spec_file(batch[1] if batch else name, kind="profiles")
    content = _content(path, workspace)
    recipes = content.get("recipes", {})
    if isinstance(recipes, dict):  # whose profiles may extend this one, and so have recipes too
        content["recipes"] = {
            family: _content(file, workspace) | {"recipes": {}} for family, file in recipes.items()
        }
    profile = parse_spec(Profile, content, source=path)
    if isinstance(profile.data, CocoData) and profile.data.root is not None:
        here = profile.data.model_copy(update={"root": workspace.root / profile.data.root})
        profile = profile.model_copy(update={"data": here})
    if batch:
        profile = profile.for_batch(int(batch[2]))
    if data is None and profile.own_data is not None:
        folder = os.environ.get(profile.own_data.env or "")
        data = coco_folder(Path(folder)) if folder else None
    if data is not None:
        profile = profile.with_data(data)
    return profile if start is None else profile.model_copy(update={"start": StartFile.of(start)})


def _content(path: Path, workspace: Workspace, *, below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The keys of a file, which names files beside it, over those of the profile it extends."""
    if path.resolve() in below:
        raise SpecError(f"{below[0]}: extends itself, by {', '.join(map(str, below))}")
    content = {**read_yaml(path), "name": path.stem}
    if isinstance(recipes := content.get("recipes"), dict):
        content["recipes"] = {f: _named_by(path, of, workspace) for f, of in recipes.items()}
    start = content.get("start")
    if isinstance(start, str) and (path.parent / start).is_file():
        content["start"] = path.parent / start
    extended = content.pop("extends", None)
    if extended is None:
        return content
    base = _named_by(path, extended, workspace)
    inherited = _content(base, workspace, below=(*below, path.resolve()))
    if isinstance(own := inherited.get("own_data"), dict):  # which would take the place of these
        changes = {k: v for k, v in content.items() if k in ("options", "augmentation")}
        inherited["own_data"] = _merged(own, changes)
    return _merged({**inherited, "description": ""}, content)


def _named_by(path: Path, name: object, workspace: Workspace) -> Path:
    """The file of a profile that another one names: beside it, or as a call names it."""
    beside = path.parent / str(name)
    try:
        by_call = beside.suffix not in (".yaml", ".yml") or not beside.is_file()
        return workspace.spec_file(str(name), kind="profiles") if by_call else beside
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``changes`` over ``base``, mappings of one kind key by key."""
    merged = dict(base)
    for key, value in changes.items():
        old: Any = base.get(key)
        both = isinstance(value, dict) and isinstance(old, dict)
        alike = both and value.get("kind") in (None, old.get("kind"))
        merged[key] = _merged(old, value) if alike else value
    return merged
