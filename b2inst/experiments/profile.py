"""Profiles: at which scale experiments are run (``experiments/profiles/<name>.yaml``)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, JsonValue, NonNegativeInt, PositiveInt, model_validator

from b2inst.experiments.data_spec import CocoData, DataSpec, coco_folder
from b2inst.experiments.errors import SpecError
from b2inst.experiments.resources import Resources
from b2inst.experiments.run_spec import Augmentation, Precision, RunSpec
from b2inst.experiments.workspace import Workspace
from b2inst.experiments.yaml_spec import Spec, read_spec
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
    description: str
    variant: str  #: the second half of a model's name: "tiny", "r50"
    #: The variants that rows may ask for, and what each is here: ``{r50: tiny}``. A row that asks
    #: for another is not run.
    variants: dict[str, str] = Field(default_factory=dict)
    options: dict[str, JsonValue] = Field(default_factory=dict)  #: model options of every row,
    #: but for families that have their own: ``{yolact: {size: 96}}``, in place of all of these.
    families: dict[str, dict[str, JsonValue]] = Field(default_factory=dict)
    data: DataSpec
    own_data: OwnData | None = None
    augmentation: Augmentation
    #: Shorter sides that rows with multi-scale training draw from; by default as all others.
    multi_scale: tuple[PositiveInt, ...] = ()
    schedule: Schedule
    precision: Precision = "32-true"
    seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (0,)
    machine: Resources = Resources()

    @model_validator(mode="after")
    def _seeds_differ(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)}: each is run once, name it once")
        return self

    def with_data(self, data: CocoData) -> Profile:
        """The same profile on a COCO-format folder."""
        changed: dict[str, Any] = {"data": data}
        if self.own_data is not None:
            changed["options"] = {**self.options, **self.own_data.options}
            changed["families"] = {**self.families, **self.own_data.families}
            changed["augmentation"] = self.own_data.augmentation
        return self.model_copy(update=changed)

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
        """The run of a model family with its own options (they win over the profile's).

        Args:
            variant: the model's size as a row asks for it (default: the profile's own).
            epochs_factor: how many times the profile's schedule (``Schedule.scaled_by``).

        Raises:
            SpecError: the profile does not offer the variant.
        """
        if not self.offers(variant):
            known = ", ".join({self.variant: None, **self.variants})
            raise SpecError(f"profile {self.name} has no variant '{variant}'; it has {known}")
        own = self.variant if variant is None else self.variants.get(variant, variant)
        common = self.families.get(family.removeprefix("b2inst-"), self.options)
        return RunSpec(
            model=f"{family}-{own}",
            options={**common, **options},
            data=self.data,
            augmentation=self.augmentation,
            schedule=self.schedule.scaled_by(epochs_factor),
            precision=self.precision,
            seed=seed,
        )


def load_profile(
    name: str, *, data: CocoData | None = None, workspace: Workspace | None = None
) -> Profile:
    """Read a profile, by name or path.

    Args:
        data: a COCO-format folder to use in place of the profile's own data.

    Raises:
        SpecError: no such profile, or it does not say something that can be run.
    """
    path = (workspace or Workspace.here()).spec_file(name, kind="profiles")
    profile = read_spec(Profile, path, name=path.stem)
    if data is None and profile.own_data is not None and profile.own_data.env is not None:
        folder = os.environ.get(profile.own_data.env)
        data = coco_folder(Path(folder)) if folder else None
    return profile if data is None else profile.with_data(data)
