"""Models and images that the explorer offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from b2inst.data import CocoIndex
from b2inst.data.images import as_array, read_image
from b2inst.experiments import CocoData, RunError, Workspace, load_profile, load_table, open_run
from b2inst.models import CATALOG, WITHOUT_BASES, baseline_of
from b2inst.structures import Instances
from b2inst.viz.draw import Picture
from b2inst.viz.qualitative import truth_instances
from b2inst.weights.files import model_card


@dataclass(frozen=True)
class Checkpoint:
    """A weights file with its names."""

    label: str
    short: str  #: short name, for figures
    path: Path
    name: str  #: name of the model in the catalog
    parts: int  #: number of B2Inst's parts: the boundary, branches of the scoring head
    seed: int | None = None
    refined: bool = False  #: whether masks are refined in steps


def trained_models(
    profile: str,
    seeds: Sequence[int],
    *,
    data: CocoData | None = None,
    besides: Sequence[Checkpoint] = (),
    workspace: Workspace | None = None,
) -> list[Checkpoint]:
    """List the tables' rows with bases that have been trained, in the order of the tables.

    Rows with a boundary oracle are left out, since they cannot explain an image. A run of several
    tables is listed for the first.

    Args:
        profile: Name or path of a profile.
        seeds: Seeds of the runs.
        data: COCO-format folder that the runs were trained on instead of the profile's data.
        besides: Other models, which come first.
        workspace: Where the runs are (default: the current folder).

    Raises:
        RunError: There is none, and no other.
    """
    workspace = workspace or Workspace.here()
    plan = load_profile(profile, data=data, workspace=workspace)
    if isinstance(plan.data, CocoData):
        plan = plan.model_copy(update={"data": plan.data.identified()})
    found: dict[Path, Checkpoint] = {}
    for name in sorted(workspace.specs(), key=lambda name: (not name.startswith("table"), name)):
        specs = load_table(name, workspace=workspace).run_specs(plan, tuple(seeds))
        for row, spec in ((row, spec) for row, of_row in specs.items() for spec in of_row):
            path = open_run(workspace.runs, spec).model_path
            without = spec.model.rpartition("-")[0] in WITHOUT_BASES
            if path.is_file() and not without and spec.options.get("oracle") is None:
                label = f"{name} · {row} · seed {spec.seed}"
                one = replace(weights_file(path), label=label, short=row, seed=spec.seed)
                found.setdefault(path, one)
    if not found and not besides:
        raise RunError(
            f"{workspace.shown(workspace.runs)}: no trained model of profile {profile}, seed "
            f"{', '.join(map(str, seeds))}; train some with `b2inst table table1 --profile "
            f"{profile}`, or name a weights file with B2INST_WEIGHTS=…/model.safetensors"
        )
    return [*besides, *found.values()]


def weights_file(path: str | Path) -> Checkpoint:
    """Offer any weights file of the package; WeightsError if it is missing or not one."""
    path, card = Path(path), model_card(path)
    name, options = card["name"], card["options"]
    adds = name != baseline_of(name)
    boundary = options.get("boundary", {} if adds else None)
    branches = options.get("scoring", ("iou", "boundary") if adds else ())
    parts = (boundary is not None) + len(branches)
    refined = bool((vars(CATALOG[name]) | options).get("refine"))
    return Checkpoint(str(path), path.stem, path, name, parts, refined=refined)


def fullest(models: Sequence[Checkpoint]) -> Checkpoint:
    """Choose the model with most of B2Inst's parts, the first of several."""
    return max(models, key=lambda model: model.parts)


def baseline(models: Sequence[Checkpoint], model: Checkpoint) -> Checkpoint:
    """Choose the baseline of a model's family, of the same seed if possible, or else the model."""
    name = baseline_of(model.name)
    same = [m for m in models if m.name == name and not (m.parts or m.refined)]
    return min(same, key=lambda m: m.seed != model.seed, default=model)


@dataclass(frozen=True)
class Sample:
    """An image with its objects, if they are known."""

    name: str
    image: Picture
    truth: Instances  #: of score 1; empty if nothing is known


class Dataset:
    """The images of a split, read when they are needed."""

    def __init__(self, index: CocoIndex) -> None:
        self.index = index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> Sample:
        record = self.index.images[i]
        image = as_array(read_image(record.path))
        return Sample(f"image {record.id}", image, truth_instances(self.index, record))


Samples = Dataset | Sequence[Sample]


def own_image(path: str | Path) -> Sample:
    """Read an image without known objects; DataError if it is missing or cannot be read."""
    array = as_array(read_image(path))
    scores, masks = torch.zeros(0), torch.zeros((0, *array.shape[:2]), dtype=torch.bool)
    truth = Instances(torch.zeros((0, 4)), scores, scores, scores.long(), masks)
    return Sample(Path(path).name, array, truth)
