"""A table's numbers: the paper's beside ours."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, computed_field

from b2inst.experiments import SplitName, Workspace
from b2inst.experiments.runs.store import read_json, write_json
from b2inst.experiments.specs.table_spec import Contrast, Setting
from b2inst.experiments.specs.yaml_spec import parse_spec

#: Printed where there is no number: an empty size range, a cell the paper does not have.
NOTHING = "–"


def table_folder(profile: str, table: str, split: SplitName | None, workspace: Workspace) -> Path:
    """Return ``results/local/<profile>/<table>/``, ``<table>-<split>/`` for another split."""
    name = table if split is None else f"{table}-{split}"
    return workspace.results / profile / name


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Measured(_Part):
    """A metric over seeds, AP in percent; None if nothing was measured."""

    mean: float | None
    sd: float | None = None  #: sample standard deviation; None for one seed
    n: int = 0  #: seeds

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Self:
        """Summarise the values that are not None."""
        found = [value for value in values if value is not None]
        return cls(
            mean=statistics.fmean(found) if found else None,
            sd=statistics.stdev(found) if len(found) > 1 else None,
            n=len(found),
        )

    def text(self, digits: int = 1) -> str:
        """Mean ± standard deviation, as printed."""
        values = [f"{value:.{digits}f}" for value in (self.mean, self.sd) if value is not None]
        return " ± ".join(values) or NOTHING


class Difference(_Part, extra="ignore"):
    """A metric minus that of the base row, over the seeds both have.

    AP in percent points, FPS in percent of the base row's.
    """

    mean: float | None
    ci95: tuple[float, float] | None = None  #: over images, for the trained models
    base: str
    sd: float | None = None  #: of the seeds' own differences; None for one seed
    band95: tuple[float, float] | None = None  #: over images and seeds (``noise_band``)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def inside_noise(self) -> bool | None:
        """Whether the band contains zero."""
        return None if self.band95 is None else self.band95[0] <= 0 <= self.band95[1]


class ResultRow(_Part):
    """One row."""

    name: str
    paper: dict[str, float | str]  #: cells, and under "source" their place in the paper
    ours: dict[str, Measured] = {}
    delta: dict[str, Difference] = {}
    runs: list[str] = []  #: hashes, in the order of the seeds
    base: str | None = None  #: the row that differences are taken to
    status: Literal["run", "not run", "published only"]
    group: str | None = None  #: heading that the row stands under, with its neighbours
    setting: Setting | None = None  #: how the paper says it was trained
    origin: str | None = None  #: where the paper has its cells from, and what else is published


class ContrastResult(Contrast):
    """A question with the difference that answers it."""

    #: Empty if one of them has not been run.
    delta: dict[str, Difference] = Field(default_factory=dict)


class TableResult(_Part):
    """A table, with all that its renderings show."""

    table: str
    profile: str
    split: SplitName | None = None  #: None: the one that is reported on
    columns: list[str]
    rows: list[ResultRow]
    contrasts: list[ContrastResult] = []
    provenance: dict[str, Any]

    @property
    def seeds(self) -> int:
        """Number of seeds of the row that has most."""
        return max(len(row.runs) for row in self.rows)

    def folder(self, workspace: Workspace) -> Path:
        return table_folder(self.profile, self.table, self.split, workspace)

    def row(self, name: str) -> ResultRow:
        return next(row for row in self.rows if row.name == name)

    def paper_difference(self, name: str, column: str) -> float | None:
        """The paper's cell minus its base row's, FPS in percent of it; None without the two."""
        row = self.row(name)
        here = row.paper.get(column)
        there = None if row.base is None else self.row(row.base).paper.get(column)
        if not isinstance(here, (int, float)) or not isinstance(there, (int, float)):
            return None
        return 100 * (here / there - 1) if column == "FPS" else here - there

    def save(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path) -> TableResult:
        return parse_spec(cls, read_json(path), source=path)
