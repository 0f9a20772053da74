"""Tables: which rows a table of the paper has (``experiments/<table>.yaml``)."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, JsonValue, model_validator

from b2inst.experiments.profile import Profile
from b2inst.experiments.run_spec import RunSpec
from b2inst.experiments.workspace import Workspace
from b2inst.experiments.yaml_spec import Spec, read_spec

#: What a table shows of a run, in this order: mask AP by COCO's rules, then boundary and box AP.
COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "boundary_AP", "box_AP")


class Row(Spec):
    """One row: the model that is trained for it and what the paper says."""

    name: str
    model: str | None = None  #: family, e.g. "b2inst-blendmask"; None: published only
    options: dict[str, JsonValue] = Field(
        default_factory=dict
    )  #: what differs from the family's defaults
    paper: dict[str, float] = Field(default_factory=dict)  #: the paper's cells, in percent
    source: str | None = None  #: place of the cells in the paper


class TableSpec(Spec):
    """A table of the paper."""

    name: str
    title: str
    source: str  #: the paper's table and what it was measured on
    columns: Annotated[tuple[str, ...], Field(min_length=1)] = COLUMNS
    base: str  #: the row that differences are taken to
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    notebook: str | None = None  #: file in ``notebooks/`` that shows the table

    @model_validator(mode="after")
    def _rows_fit(self) -> Self:
        names = [row.name for row in self.rows]
        if len(set(names)) < len(names):
            raise ValueError(f"rows {names}: each needs a name of its own")
        if self.base not in names:
            raise ValueError(f"base '{self.base}' is not a row; rows are {', '.join(names)}")
        if unknown := [c for c in self.columns if c not in COLUMNS]:
            raise ValueError(f"unknown columns {unknown}; there are {', '.join(COLUMNS)}")
        for row in self.rows:
            if strange := [c for c in row.paper if c not in self.columns]:
                raise ValueError(f"row '{row.name}': paper cells {strange} are in no column")
        return self

    def run_specs(self, profile: Profile, seeds: tuple[int, ...]) -> dict[str, tuple[RunSpec, ...]]:
        """The runs of each row that is trained, in the order of the seeds."""
        return {
            row.name: tuple(profile.run_spec(row.model, row.options, seed) for seed in seeds)
            for row in self.rows
            if row.model is not None
        }


def load_table(name: str, *, workspace: Workspace | None = None) -> TableSpec:
    """Read a table spec, by name ("table1") or path.

    Raises:
        SpecError: no such table, or it is not well formed.
    """
    path = (workspace or Workspace.here()).spec_file(name, kind="")
    return read_spec(TableSpec, path, name=path.stem)
