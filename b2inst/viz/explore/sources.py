"""Models and images to choose from: of the tables, of a data set, or one's own."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from b2inst.data import CocoIndex, DataError
from b2inst.data.images import as_array, read_image
from b2inst.experiments.runs.store import RunStatus, open_run
from b2inst.experiments.specs.data_spec import CocoData
from b2inst.experiments.specs.errors import RunError
from b2inst.experiments.specs.profile import load_profile
from b2inst.experiments.specs.table_spec import load_table
from b2inst.experiments.specs.workspace import Workspace
from b2inst.models import CATALOG, TWO_STAGE, baseline_of
from b2inst.ops.images import upright_rgb
from b2inst.structures import Instances
from b2inst.viz.draw import Picture
from b2inst.viz.qualitative import truth_instances
from b2inst.weights.files import model_card


@dataclass(frozen=True)
class Checkpoint:
    """A weights file, and what it is called."""

    label: str
    short: str  #: the same in a word, for pictures
    path: Path
    name: str  #: in the catalog
    parts: int  #: that B2Inst has added: the boundary, branches of the scoring head
    seed: int | None = None
    refined: bool = False  #: its masks are, in steps


def trained_models(
    profile: str,
    seeds: Sequence[int],
    *,
    data: CocoData | None = None,
    workspace: Workspace | None = None,
) -> list[Checkpoint]:
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
    found: dict[Path, Checkpoint] = {}
    for name in sorted(workspace.specs(), key=lambda name: (not name.startswith("table"), name)):
        specs = load_table(name, workspace=workspace).run_specs(plan, tuple(seeds))
        for row, spec in ((row, spec) for row, of_row in specs.items() for spec in of_row):
            run = open_run(workspace.runs, spec)
            two_stage = spec.model.rpartition("-")[0] in TWO_STAGE
            excluded = two_stage or spec.options.get("oracle") is not None
            if excluded or run.status is not RunStatus.TRAINED:
                continue
            if run.model_path not in found:
                label = f"{name} · {row} · seed {spec.seed}"
                found[run.model_path] = _checkpoint(label, row, run.model_path, spec.seed)
    if not found:
        raise RunError(
            f"{workspace.shown(workspace.runs)}: no trained model of profile {profile}, seed "
            f"{', '.join(map(str, seeds))}; train some with `make table1 PROFILE={profile}`, or "
            "name a weights file with B2INST_WEIGHTS=…/model.safetensors"
        )
    return list(found.values())


def weights_file(path: str | Path) -> Checkpoint:
    """Any weights file of the package.

    Raises:
        WeightsError: it is missing, or not one.
    """
    return _checkpoint(str(path), Path(path).stem, Path(path), None)


def fullest(models: Sequence[Checkpoint]) -> Checkpoint:
    """The model with most of B2Inst's parts, the first of several."""
    return max(models, key=lambda model: model.parts)


def baseline(models: Sequence[Checkpoint], model: Checkpoint) -> Checkpoint:
    """That of a model's family, of its seed if there is one; else the model itself."""
    name = baseline_of(model.name)
    same = [m for m in models if m.name == name and not (m.parts or m.refined)]
    return next((m for m in same if m.seed == model.seed), next(iter(same), model))


def _checkpoint(label: str, short: str, path: Path, seed: int | None) -> Checkpoint:
    card = model_card(path)
    name, options = card["name"], card["options"]
    adds = name != baseline_of(name)
    boundary = options.get("boundary", {} if adds else None)
    branches = options.get("scoring", ("iou", "boundary") if adds else ())
    built_with = vars(CATALOG[name]) | options
    parts = (boundary is not None) + len(branches)
    return Checkpoint(label, short, path, name, parts, seed, bool(built_with.get("refine")))


@dataclass(frozen=True)
class Sample:
    """An image, and its true objects where they are known."""

    name: str
    image: Picture
    truth: Instances  #: of score 1; none where nothing is known
    #: COCO annotations of this image alone, by which AP is measured; None where there are none.
    annotations: dict[str, Any] | None = None


class Dataset:
    """The images of a split, read when they are asked for."""

    def __init__(self, index: CocoIndex) -> None:
        self.index = index

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> Sample:
        index, record = self.index, self.index.images[i]
        image = as_array(read_image(record.path))
        annotations = index.subset([record.id]).to_coco()
        return Sample(f"image {record.id}", image, truth_instances(index, record), annotations)


Samples = Dataset | Sequence[Sample]


def own_image(path: str | Path, content: bytes | None = None) -> Sample:
    """An image about which nothing is known.

    Args:
        path: the file, or with ``content`` its name alone.
        content: of a file that came through the browser.

    Raises:
        DataError: it is missing, or no image.
    """
    if content is None:
        array = as_array(read_image(path))
    else:
        try:
            with Image.open(io.BytesIO(content)) as file:
                array = as_array(upright_rgb(file))
        except Exception:  # decoders raise whatever a broken file makes them stumble over
            raise DataError(
                f"{path}: not an image that can be read; give a PNG or JPEG file"
            ) from None
    scores, masks = torch.zeros(0), torch.zeros((0, *array.shape[:2]), dtype=torch.bool)
    truth = Instances(torch.zeros((0, 4)), scores, scores, scores.long(), masks)
    return Sample(Path(path).name, array, truth)
