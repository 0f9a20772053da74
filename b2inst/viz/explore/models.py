"""The models to look into: what `make table1` and its like have trained, or any weights file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from b2inst.experiments.runs.store import RunStatus, open_run
from b2inst.experiments.specs.data_spec import CocoData
from b2inst.experiments.specs.errors import RunError
from b2inst.experiments.specs.profile import load_profile
from b2inst.experiments.specs.table_spec import load_table
from b2inst.experiments.specs.workspace import Workspace
from b2inst.models import CATALOG, TWO_STAGE, baseline_of
from b2inst.weights.files import model_card

_ALL_BRANCHES = ("iou", "boundary")


@dataclass(frozen=True)
class Candidate:
    """A weights file, and what it is called."""

    label: str
    short: str  #: the same in a word, for pictures
    path: Path
    name: str  #: in the catalog
    parts: int  #: that B2Inst has added: the boundary, branches of the scoring head
    seed: int | None = None
    refined: bool = False  #: its masks are: they form in steps

    @property
    def baseline(self) -> str:
        """Name in the catalog of the model without what it adds."""
        return baseline_of(self.name)


def trained_models(
    profile: str,
    seeds: Sequence[int],
    *,
    data: CocoData | None = None,
    workspace: Workspace | None = None,
) -> list[Candidate]:
    """The tables' rows with bases that have been trained, in the order of the tables.

    Rows that are shown the true boundaries are left out: they cannot explain an image. A run that
    stands in several tables is named by the first.

    Args:
        data: a COCO-format folder in place of the profile's data, as the runs were made with.

    Raises:
        RunError: there is none.
    """
    workspace = workspace or Workspace.here()
    plan = load_profile(profile, data=data, workspace=workspace)
    if isinstance(plan.data, CocoData):
        plan = plan.model_copy(update={"data": plan.data.identified()})
    tables = {path.stem for path in workspace.spec_file("table1", kind="").parent.glob("*.yaml")}
    found: dict[Path, Candidate] = {}
    for name in sorted(tables, key=lambda name: (not name.startswith("table"), name)):
        specs = load_table(name, workspace=workspace).run_specs(plan, tuple(seeds))
        for row, spec in ((row, spec) for row, of_row in specs.items() for spec in of_row):
            run = open_run(workspace.runs, spec)
            explains = (
                spec.model.rpartition("-")[0] not in TWO_STAGE
                and spec.options.get("oracle") is None
            )
            if explains and run.status is RunStatus.TRAINED and run.model_path not in found:
                label = f"{name} · {row} · seed {spec.seed}"
                found[run.model_path] = _candidate(label, row, run.model_path, spec.seed)
    if not found:
        raise RunError(
            f"{workspace.shown(workspace.runs)}: no trained model of profile {profile}, seed "
            f"{', '.join(map(str, seeds))}; train some with `make table1 PROFILE={profile}`, or "
            "name a weights file with B2INST_WEIGHTS=…/model.safetensors"
        )
    return list(found.values())


def weights_file(path: str | Path) -> Candidate:
    """Any weights file of the package.

    Raises:
        WeightsError: it is missing, or not one.
    """
    return _candidate(str(path), Path(path).stem, Path(path), None)


def fullest(models: Sequence[Candidate]) -> Candidate:
    """The model with most of B2Inst's parts, the first of several: what to open with."""
    return max(models, key=lambda model: model.parts)


def companion(models: Sequence[Candidate], model: Candidate) -> Candidate:
    """The baseline to see beside a model: of its family and, if there is one, its seed."""
    same = [m for m in models if m.name == model.baseline and not (m.parts or m.refined)]
    return next((m for m in same if m.seed == model.seed), next(iter(same), model))


def _candidate(label: str, short: str, path: Path, seed: int | None) -> Candidate:
    card = model_card(path)
    name, options = card["name"], card["options"]
    adds = name != baseline_of(name)
    boundary = options.get("boundary", {} if adds else None)
    branches = options.get("scoring", _ALL_BRANCHES if adds else ())
    parts = (boundary is not None) + len(branches)
    built_with = vars(CATALOG[name]) | options
    return Candidate(label, short, path, name, parts, seed, refined=bool(built_with.get("refine")))
