"""Tables: which rows a table of the paper has (``experiments/<table>.yaml``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, JsonValue, PositiveInt, model_validator

from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace
from b2inst.experiments.specs.yaml_spec import Spec, did_you_mean, parse_spec, read_yaml

if TYPE_CHECKING:  # it imports the names of the metrics
    from b2inst.experiments.specs.profile import Profile

#: AP by COCO's rules, as ``evaluate`` names it: of masks, boundaries and boxes.
RANKED = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    "boundary_AP",
    *("box_AP", "box_AP50", "box_AP75", "box_APs", "box_APm", "box_APl"),
)

#: The same masks ranked by S_class alone: what they were without a scoring head. By the name of
#: the metric that they are by their own ranking.
CLASS_RANKED = {name: f"class_{name}" for name in ("AP", "AP50", "AP75", "boundary_AP")}

#: AP of the objects that touch another one, and of those that do not.
GROUPS = ("touching_AP", "touching_boundary_AP", "isolated_AP", "isolated_boundary_AP")

#: Of detections above a score threshold, which is chosen on the validation split: only where a
#: third split is reported on.
THRESHOLDED = ("dsb_AP", "dsb_AP50", "dsb_AP75", "dsb_AP90", "PQ")

METRICS = (*RANKED, *GROUPS, *CLASS_RANKED.values(), *THRESHOLDED)

#: What a prediction costs: images a second, millions of parameters, 10⁹ operations an image.
COSTS = ("FPS", "parameters", "GFLOPs")


class Setting(Spec):
    """How the paper says a row was trained."""

    backbone: str  #: as printed: "R-50"
    epochs: PositiveInt
    multi_scale: bool = False  #: shorter sides drawn from several ("Aug")


class Row(Spec):
    """One row: the model that is trained for it and what the paper says."""

    name: Annotated[str, Field(min_length=1)]
    group: str | None = None  #: heading that the row stands under, with its neighbours
    setting: Setting | None = None
    model: str | None = None  #: family, e.g. "b2inst-blendmask"; None: published only
    #: What differs from the profile's.
    options: dict[str, JsonValue] = Field(default_factory=dict)
    variant: str | None = None  #: size of the model, "r50" (default: the profile's own)
    schedule: Annotated[float, Field(gt=0)] = 1  #: times the profile's
    #: Times the profile's image size; where training is on crops, sizes are the images' own.
    image_scale: Annotated[float, Field(gt=0)] = 1
    base: str | None = None  #: the row its differences are taken to, if not the table's
    paper: dict[str, float] = Field(default_factory=dict)  #: the paper's cells, AP in percent
    source: str | None = None  #: place of the cells in the paper
    origin: str | None = None  #: where the paper has them from, and what else is published

    def run_spec(self, profile: Profile, seed: int) -> RunSpec:
        """Return the row's run by a profile that has its variant; it has a model."""
        spec = profile.run_of(f"{self.model}-{profile.size_of(self.variant)}", self.options, seed)
        augmentation = spec.augmentation
        several = self.setting and self.setting.multi_scale and profile.multi_scale
        if several and not augmentation.ssd:  # which crops and expands images
            augmentation = augmentation.model_copy(update={"shorter": profile.multi_scale})
        schedule = spec.schedule.scaled_by(self.schedule)
        spec = spec.model_copy(update={"augmentation": augmentation, "schedule": schedule})
        if self.image_scale == 1 or augmentation.crop is not None:
            return spec
        return spec.with_image_size(round(spec.image_size * self.image_scale))


class Contrast(Spec):
    """A question that the difference of two rows answers."""

    asks: str
    row: str
    base: str


class TableSpec(Spec):
    """A table of the paper, or one of ours."""

    name: str
    title: str
    source: str  #: the paper's table and what it was measured on
    columns: Annotated[tuple[str, ...], Field(min_length=1)] = RANKED
    base: str | None = None  #: the row that differences are taken to where a row names no other
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    contrasts: tuple[Contrast, ...] = ()  #: differences besides those to each row's base
    note: str | None = None  #: what a reader must know besides; shown under the table
    notebook: str | None = None  #: file in ``notebooks/`` that shows the table

    @model_validator(mode="after")
    def _rows_fit(self) -> Self:
        names = [row.name for row in self.rows]
        if len(set(names)) < len(names):
            raise ValueError(f"rows {names}: give each its own name")
        if unknown := [c for c in self.columns if c not in METRICS + COSTS]:
            raise ValueError(f"unknown columns {unknown}; there are {', '.join(METRICS + COSTS)}")
        named = {base for base in (self.base, *(row.base for row in self.rows)) if base is not None}
        named |= {name for c in self.contrasts for name in (c.row, c.base)}
        if unknown := sorted(named - set(names)):
            raise ValueError(f"'{unknown[0]}' is not a row; rows are {', '.join(names)}")
        for row in self.rows:
            if strange := [c for c in row.paper if c not in self.columns]:
                raise ValueError(f"row '{row.name}': paper cells {strange} are in no column")
        return self

    def with_columns(self, columns: tuple[str, ...]) -> TableSpec:
        """Return the same table with more columns, those of a profile."""
        more = [column for column in columns if column not in self.columns]
        return self.model_copy(update={"columns": (*self.columns, *more)})

    @property
    def metrics(self) -> tuple[str, ...]:
        """Columns that are measured from predictions, for each seed."""
        return tuple(column for column in self.columns if column in METRICS)

    @property
    def costs(self) -> tuple[str, ...]:
        """Columns that are measured with the weights of each row's first seed."""
        return tuple(column for column in self.columns if column in COSTS)

    @property
    def bases(self) -> dict[str, str]:
        """Base row of each row that has one."""
        named = {row.name: row.base or self.base for row in self.rows}
        return {name: base for name, base in named.items() if base is not None and base != name}

    def run_specs(self, profile: Profile, seeds: tuple[int, ...]) -> dict[str, tuple[RunSpec, ...]]:
        """Return the runs of each row that the profile trains, in the order of the seeds.

        Rows of a variant that the profile does not have, or their family, are not run.

        Raises:
            SpecError: There is no such model, variant or option.
        """
        from b2inst.models import CATALOG  # imports PyTorch

        families, sizes = ({name.rpartition("-")[i] for name in CATALOG} for i in (0, 2))
        known: dict[str, set[str]] = {"model": families, "variant": sizes | {*profile.variants}}
        if unknown := sorted({profile.variant, *profile.variants.values()} - sizes):
            hint = did_you_mean(unknown[0], sizes)
            raise SpecError(
                f"profile {profile.name}: no model has the variant '{unknown[0]}'{hint}"
            )
        found = {}
        for row in (row for row in self.rows if row.model is not None):
            for key, names in known.items():
                if (name := getattr(row, key)) is not None and name not in names:
                    hint = did_you_mean(name, names)
                    raise SpecError(f"{self.name}: row '{row.name}': unknown {key} '{name}'{hint}")
            if f"{row.model}-{profile.size_of(row.variant)}" in CATALOG:
                found[row.name] = tuple(row.run_spec(profile, seed) for seed in seeds)
        return found


def load_table(name: str, *, workspace: Workspace | None = None) -> TableSpec:
    """Read a table spec, by name ("table1") or path; a SpecError if it is not valid."""
    path = (workspace or Workspace.here()).spec_file(name, kind="")
    return parse_spec(TableSpec, {**read_yaml(path), "name": path.stem}, source=path)
