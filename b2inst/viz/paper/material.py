"""What the paper's figures are drawn from: trained models of the tables, and what they predict."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from b2inst.data import CocoIndex, ImageRecord
from b2inst.evaluation import Prediction, read_predictions
from b2inst.experiments.runs.datasets import load_split, prepare
from b2inst.experiments.runs.store import Run, open_run
from b2inst.experiments.specs.data_spec import CocoData
from b2inst.experiments.specs.errors import RunError, SpecError
from b2inst.experiments.specs.profile import Profile, load_profile
from b2inst.experiments.specs.table_spec import Row, load_table
from b2inst.experiments.specs.workspace import Workspace
from b2inst.models import BasisSegmenter, with_bases
from b2inst.viz.choose import by_image, shown
from b2inst.viz.image_ap import boundary_ap_by_image
from b2inst.weights import load_model

#: Where models are looked for; in the first that has a model, the last row is the one with all
#: parts of the paper's method.
TABLES = ("table1", "table3")

#: Families as the paper's figures call them.
NAMES = {
    "blendmask": "BlendMask",
    "b2inst-blendmask": "B2Inst-BlendMask",
    "yolact": "YOLACT",
    "b2inst-yolact": "B2Inst-YOLACT",
    "condinst": "CondInst",
    "b2inst-condinst": "B2Inst-CondInst",
}

#: Least class score of what is shown.
SCORE_THRESHOLD = 0.4

_CANDIDATES = 500  # images of a large split that are looked at, drawn by seed 0


@dataclass(frozen=True)
class TrainedModel:
    """A row of a table, trained; its first seed is the one that is drawn."""

    name: str
    row: str  #: table and row
    split: str
    runs: dict[int, Run]  #: by seed

    @property
    def drawn(self) -> Run:
        return next(iter(self.runs.values()))

    @cached_property
    def predictions(self) -> list[Prediction]:
        return read_predictions(self.drawn.predictions_path(self.split))

    @cached_property
    def shown(self) -> Mapping[int, list[Prediction]]:
        """What figures show of each image (see :func:`b2inst.viz.choose.shown`)."""
        return _shown(self.predictions)

    def shown_by(self, seed: int) -> Mapping[int, list[Prediction]]:
        """The same of any seed."""
        run = self.runs[seed]
        if run == self.drawn:
            return self.shown
        return _shown(read_predictions(run.predictions_path(self.split)))

    @cached_property
    def model(self) -> BasisSegmenter:
        return with_bases(load_model(self.drawn.model_path))


class Material:
    """The trained models of a profile and the images they are compared on.

    Args:
        plan: the profile, on prepared data.
        seeds: the first that is there is drawn; counts over the split are of all of them.
        profile: its name or path, for what to run (default: its name).
        own_data: the data are not the profile's.
    """

    def __init__(
        self,
        plan: Profile,
        workspace: Workspace,
        *,
        seeds: Sequence[int],
        profile: str | None = None,
        own_data: bool = False,
    ) -> None:
        self.plan = plan
        self.workspace = workspace
        self.seeds = tuple(seeds)
        self._variables = f"PROFILE={profile or plan.name}"
        if self.seeds != (0,):
            self._variables += f" SEEDS={','.join(map(str, self.seeds))}"
        self._with_data = " with the same data" if own_data else ""
        self._found: dict[str, TrainedModel] = {}
        self._boundary_ap: dict[str, dict[int, float]] = {}

    @classmethod
    def of(
        cls,
        profile: str = "tiny",
        *,
        seeds: Sequence[int] = (0,),
        data: CocoData | None = None,
        workspace: Workspace | None = None,
    ) -> Self:
        """The material of a profile, by name or path; its scenes are written where missing.

        Raises:
            SpecError: no such profile. DataError: no such data.
        """
        workspace = workspace or Workspace.here()
        plan = load_profile(profile, data=data, workspace=workspace)
        plan = plan.model_copy(update={"data": prepare(plan.data, workspace.data)})
        return cls(plan, workspace, seeds=seeds, profile=profile, own_data=data is not None)

    @cached_property
    def index(self) -> CocoIndex:
        """The split that tables report on."""
        return load_split(self.plan.data, self.plan.data.report_split, self.workspace.data)

    @cached_property
    def records(self) -> dict[int, ImageRecord]:
        """Its images by id."""
        return {record.id: record for record in self.index.images}

    @cached_property
    def candidates(self) -> list[int]:
        """Ids of the images that figures choose from: all, or 500 of a larger split at random."""
        ids = list(self.records)
        return ids if len(ids) <= _CANDIDATES else random.Random(0).sample(ids, _CANDIDATES)

    def model(self, family: str) -> TrainedModel:
        """A trained model by family ("b2inst-yolact").

        Raises:
            RunError: none is trained; says what to run.
        """
        if family not in self._found:
            self._found[family] = self._find(family)
        return self._found[family]

    def missing(self, families: Sequence[str]) -> str | None:
        """What the first family that is not trained lacks, and what to run; None if none is."""
        try:
            for family in families:
                self.model(family)
        except RunError as error:
            return str(error)
        return None

    def find(self, family: str) -> TrainedModel | None:
        """The same, or None."""
        try:
            return self.model(family)
        except RunError:
            return None

    def gains(self, first: str, second: str) -> dict[int, float]:
        """Boundary AP of the second family less that of the first, by image of ``candidates``."""
        a, b = self._image_ap(first), self._image_ap(second)
        return {image_id: b[image_id] - a[image_id] for image_id in a}

    def _image_ap(self, family: str) -> dict[int, float]:
        if family not in self._boundary_ap:
            self._boundary_ap[family] = boundary_ap_by_image(
                self.model(family).predictions,
                self.index,
                image_ids=self.candidates,
                max_detections=self.plan.max_detections,
                boundary_pixels=self.plan.data.boundary_pixels,
            )
        return self._boundary_ap[family]

    def _find(self, family: str) -> TrainedModel:
        split = self.plan.data.split_label(self.plan.data.report_split)
        remedy = None
        for table in TABLES:
            row = _row_of(family, table, self.workspace)
            if row is None:
                continue
            specs = [self.plan.run_spec(family, row.options, seed) for seed in self.seeds]
            runs = {
                spec.seed: run
                for spec in specs
                if (run := open_run(self.workspace.runs, spec)).model_path.is_file()
                and run.predictions_path(split).is_file()
            }
            if runs:
                return TrainedModel(NAMES[family], f"{table}, {row.name}", split, runs)
            remedy = remedy or f"`make {table} {self._variables}`{self._with_data}"
        raise RunError(
            f"{NAMES[family]} is not trained in profile {self.plan.name}: "
            + (f"run {remedy}" if remedy else f"no table has a row of it ({', '.join(TABLES)})")
        )


def _shown(predictions: Sequence[Prediction]) -> Mapping[int, list[Prediction]]:
    grouped = by_image(predictions)
    kept = {image_id: shown(found, SCORE_THRESHOLD) for image_id, found in grouped.items()}
    return defaultdict(list, kept)


def _row_of(family: str, table: str, workspace: Workspace) -> Row | None:
    try:
        path = workspace.spec_file(table, kind="")
    except SpecError:
        return None
    rows = load_table(str(path), workspace=workspace).rows
    return next((row for row in reversed(rows) if row.model == family), None)
