"""Profiles: at which scale experiments are run (``experiments/profiles/<name>.yaml``)."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    JsonValue,
    NonNegativeInt,
    PositiveInt,
    field_validator,
    model_validator,
)

from b2inst.experiments.specs.data_spec import CocoData, DataSpec, coco_folder
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import (
    COCO_MAX_DETECTIONS,
    Augmentation,
    Precision,
    RunSpec,
    StartFile,
)
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.specs.yaml_spec import Spec, parse_spec, read_yaml
from b2inst.training import Schedule


class OwnData(Spec):
    """What a profile changes when it is given a COCO-format folder instead of its scenes."""

    options: dict[str, JsonValue] = Field(default_factory=dict)
    families: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
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
    options: dict[str, JsonValue] = Field(default_factory=dict)  #: model options of every row,
    #: but for families that have their own: ``{yolact: {size: 96}}``, in place of all of these.
    families: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    #: Families with a recipe of their own: options, augmentation, schedule and precision of another
    #: profile, which a file names: ``{yolact: yolact-800k}``.
    recipes: dict[str, Profile] = Field(default_factory=dict)
    data: DataSpec
    own_data: OwnData | None = None
    augmentation: Augmentation
    #: Shorter sides that rows with multi-scale training draw from; by default as all others.
    multi_scale: tuple[PositiveInt, ...] = ()
    schedule: Schedule
    precision: Precision = "32-true"
    #: Weights that every run begins with: a file, or "required" where a call must name one.
    start: StartFile | Literal["required"] | None = None
    #: Of an image, both found and evaluated; COCO's is 100.
    max_detections: PositiveInt = COCO_MAX_DETECTIONS
    columns: tuple[str, ...] = ()  #: of every table, besides its own
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0,)
    machine: Resources = Resources()

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)}: name each seed once")
        return self

    @field_validator("start", mode="before")
    @classmethod
    def _find_start(cls, value: Any) -> Any:
        file = isinstance(value, str | Path) and value != "required"
        return StartFile.of(Path(value)) if file else value

    def with_data(self, data: CocoData) -> Profile:
        """The same profile on a COCO-format folder."""
        changed: dict[str, Any] = {"data": data}
        if isinstance(self.data, CocoData):
            kept = ("test", "area_bounds", "boundary_pixels")
            own = {name: getattr(self.data, name) for name in kept}
            changed["data"] = data.model_copy(update=own)
        if self.own_data is not None:
            changed["options"] = {**self.options, **self.own_data.options}
            changed["families"] = {**self.families, **self.own_data.families}
            changed["augmentation"] = self.own_data.augmentation
        return self.model_copy(update=changed)

    def with_start(self, path: Path) -> Profile:
        """The same profile, every run of which begins with the weights in a file.

        Raises:
            SpecError: there is no such file.
        """
        return self.model_copy(update={"start": StartFile.of(path)})

    def for_batch(self, size: int) -> Profile:
        """The same recipes in batches of ``size`` images (``Schedule.for_batch``)."""
        return self.model_copy(
            update={
                "name": f"{self.name}-batch{size}",
                "description": ", ".join(
                    filter(None, (self.description, f"in batches of {size} images"))
                ),
                "schedule": self.schedule.for_batch(size),
                "recipes": {family: own.for_batch(size) for family, own in self.recipes.items()},
            }
        )

    def offers(self, variant: str | None) -> bool:
        """Whether a row that asks for this variant is run; None is the profile's own."""
        return variant is None or variant in {self.variant, *self.variants}

    def run_spec(
        self,
        family: str,
        options: dict[str, JsonValue],
        seed: int,
        *,
        variant: str | None = None,
        epochs_factor: float = 1,
    ) -> RunSpec:
        """The run of a model family at one of the profile's sizes; see ``run_of``.

        Args:
            variant: the model's size as a row asks for it (default: the profile's own).
            epochs_factor: how many times the profile's schedule (``Schedule.scaled_by``).

        Raises:
            SpecError: the profile does not offer the variant, or needs weights to start from.
            WeightsError: these cannot be read.
        """
        if not self.offers(variant):
            known = ", ".join({self.variant: None, **self.variants})
            raise SpecError(f"profile {self.name} has no variant '{variant}'; it has {known}")
        size = self.variant if variant is None else self.variants.get(variant, variant)
        spec = self.run_of(f"{family}-{size}", options, seed)
        return spec.model_copy(update={"schedule": spec.schedule.scaled_by(epochs_factor)})

    def run_of(self, model: str, options: dict[str, JsonValue], seed: int) -> RunSpec:
        """The run of a model with its own options (they win over the profile's).

        Models of the variants in ``PRETRAINED`` start from ImageNet weights unless the options
        or the profile say otherwise. With weights to start from, options that belong to these
        (attention_size, msra, …) are the file's, and ImageNet weights are left out.

        Args:
            model: a name of the catalog.

        Raises:
            SpecError: the profile needs weights to start from.
            WeightsError: these cannot be read.
        """
        from b2inst.models import PRETRAINED, baseline_of  # specs are read without PyTorch

        if self.start == "required":
            raise SpecError(
                f"profile {self.name} starts from trained weights: name the file with --start, or "
                f"in a profile of your own (extends: {self.name}, start: FILE)"
            )
        family, _, variant = model.rpartition("-")
        baseline = baseline_of(family)
        recipe = self.recipes.get(baseline, self)
        pretrained = {"backbone_weights": "imagenet"} if variant in PRETRAINED else {}
        limit = {"max_detections": self.max_detections}
        if self.max_detections == COCO_MAX_DETECTIONS:
            limit = {}  # the models' own
        chosen = {**pretrained, **limit, **recipe.families.get(baseline, recipe.options), **options}
        if self.start is not None:
            from b2inst.weights.start import start_options

            chosen = {**chosen, **start_options(self.start.path), **options}
            chosen.pop("backbone_weights", None)
        return RunSpec(
            model=model,
            options=chosen,
            data=self.data,
            augmentation=recipe.augmentation,
            schedule=recipe.schedule,
            precision=recipe.precision,
            seed=seed,
            start=self.start,
        )


#: What may stand behind a profile's name: the size of its batches.
_BATCH = re.compile(r"(.+)-batch([1-9][0-9]*)")


def load_profile(
    name: str,
    *,
    data: CocoData | None = None,
    start: Path | None = None,
    workspace: Workspace | None = None,
) -> Profile:
    """Read a profile, by name or path.

    Args:
        name: "tiny", "mine.yaml"; "tiny-batch16" is tiny in batches of 16 (``for_batch``).
        data: a COCO-format folder to use in place of the profile's own data.
        start: weights that every run begins with, in place of the profile's own.

    Raises:
        SpecError: no such profile, or it does not say something that can be run.
    """
    batch = _BATCH.fullmatch(name)
    workspace = workspace or Workspace.here()
    path = workspace.spec_file(batch[1] if batch else name, kind="profiles")
    content = _content(path, workspace)
    recipes = content.get("recipes", {})
    if isinstance(recipes, dict):
        content["recipes"] = {  # which have none of their own, though they may extend this profile
            family: _content(workspace.spec_file(str(of), kind="profiles"), workspace)
            | {"recipes": {}}
            for family, of in recipes.items()
        }
    profile = parse_spec(Profile, content, source=str(path))
    if isinstance(profile.data, CocoData) and profile.data.root is not None:
        root = workspace.root / profile.data.root
        profile = profile.model_copy(
            update={"data": profile.data.model_copy(update={"root": root})}
        )
    if batch:
        profile = profile.for_batch(int(batch[2]))
    if data is None and profile.own_data is not None and profile.own_data.env is not None:
        folder = os.environ.get(profile.own_data.env)
        data = coco_folder(Path(folder)) if folder else None
    if data is not None:
        profile = profile.with_data(data)
    return profile if start is None else profile.with_start(start)


def _content(path: Path, workspace: Workspace, *, below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """What a file says, over what the profile says that it extends; with the file's name."""
    if path in below:
        raise SpecError(f"{below[0]}: extends itself, by {', '.join(map(str, below))}")
    content = {**read_yaml(path, given=["name"]), "name": path.stem}
    extended = content.pop("extends", None)
    if extended is None:
        return content
    base = workspace.spec_file(str(extended), kind="profiles")
    inherited = _content(base, workspace, below=(*below, path))
    inherited.pop("description", None)  # of something else
    return _merged(inherited, content)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``changes`` over ``base``, mappings key by key and all else as a whole."""
    return base | {
        key: _merged(base[key], value)
        if isinstance(value, dict) and isinstance(base.get(key), dict)
        else value
        for key, value in changes.items()
    }
