"""The trained models of the tables that the paper's figures are drawn from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

from b2inst.data import CocoIndex
from b2inst.evaluation import read_predictions
from b2inst.experiments.runs.datasets import load_split, prepare
from b2inst.experiments.runs.store import Run, open_run
from b2inst.experiments.specs.data_spec import CocoData
from b2inst.experiments.specs.errors import RunError
from b2inst.experiments.specs.profile import Profile, load_profile
from b2inst.experiments.specs.table_spec import load_table
from b2inst.experiments.specs.workspace import Workspace
from b2inst.models import BasisSegmenter, with_bases
from b2inst.viz.choose import ImagePredictions, candidates, visible
from b2inst.weights import load_model

#: Families as the paper's figures call them.
NAMES = {
    "blendmask": "BlendMask",
    "b2inst-blendmask": "B2Inst-BlendMask",
    "yolact": "YOLACT",
    "b2inst-yolact": "B2Inst-YOLACT",
    "condinst": "CondInst",
    "b2inst-condinst": "B2Inst-CondInst",
}

# In each table, the last row of a family is the one with all parts of the paper's method.
_TABLES = ("table1", "table3")


@dataclass(frozen=True)
class TrainedModel:
    """A trained row of a table."""

    name: str
    row: str  #: table and row
    run: Run
    predictions: ImagePredictions  #: what figures show of each image

    @cached_property
    def model(self) -> BasisSegmenter:
        """The model with its weights."""
        return with_bases(load_model(self.run.model_path))


@dataclass
class TrainedModels:
    """The trained models of a profile, and the images that they are compared on."""

    plan: Profile  #: on prepared data
    workspace: Workspace  #: where the runs are
    seeds: Sequence[int] = (0,)  #: of the tables; the first that was run is shown
    profile: str | None = None  #: name or path of the profile, for messages (default: its name)
    _found: dict[str, TrainedModel] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def load(
        cls,
        profile: str = "tiny",
        *,
        seeds: Sequence[int] = (0,),
        data: CocoData | None = None,
        workspace: Workspace | None = None,
    ) -> Self:
        """Load a profile by name or path and write its scenes where missing."""
        workspace = workspace or Workspace.here()
        plan = load_profile(profile, data=data, workspace=workspace)
        plan = plan.model_copy(update={"data": prepare(plan.data, workspace.data)})
        return cls(plan, workspace, seeds, profile)

    @cached_property
    def index(self) -> CocoIndex:
        """The images that figures choose from, of the split that tables report on."""
        split = self.plan.data.report_split
        return candidates(load_split(self.plan.data, split, self.workspace.data))

    @property
    def split(self) -> str:
        """Name of the split."""
        return self.plan.data.split_label(self.plan.data.report_split)

    def __getitem__(self, family: str) -> TrainedModel:
        """Find a trained model by its family, such as "b2inst-yolact".

        Raises:
            RunError: None is trained; the message says what to run.
        """
        if family not in self._found:
            self._found[family] = self._find(family)
        return self._found[family]

    def missing(self, families: Iterable[str]) -> str | None:
        """Say which of the families is not trained and what to run; None if all are."""
        try:
            for family in families:
                self[family]
        except RunError as error:
            return str(error)
        return None

    def _find(self, family: str) -> TrainedModel:
        tables = []
        for table in _TABLES:
            rows = load_table(table, workspace=self.workspace).rows
            row = next((row for row in reversed(rows) if row.model == family), None)
            if row is None:
                continue
            tables.append(table)
            for seed in self.seeds:
                spec = self.plan.run_spec(family, row.options, seed)
                run = open_run(self.workspace.runs, spec)
                path = run.predictions_path(self.split)
                if run.model_path.is_file() and path.is_file():
                    predictions = visible(read_predictions(path), self.index)
                    return TrainedModel(NAMES[family], f"{table}, {row.name}", run, predictions)
        command = f"b2inst table {tables[0]} --profile {self.profile or self.plan.name}"
        if tuple(self.seeds) != (0,):
            command += f" --seeds {','.join(map(str, self.seeds))}"
        raise RunError(
            f"{NAMES[family]} is not trained in profile {self.plan.name}: run `{command}`"
        )
