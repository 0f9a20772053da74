"""How good are the masks of objects whose boxes are given? For data too small to learn to detect.

    .venv/bin/python experiments/true_boxes.py beyond --data coco_tiny --seeds 0

Takes the runs of a table that was made with the same ``--profile``, ``--data`` and ``--seeds`` and
writes ``results/<profile>/<table>/true_boxes.json``: for each row the mean mask IoU and boundary
Dice (paper Eq. 1) of all objects, each masked in its true box with the coefficients of its most
central position, as the scoring head is trained; and the difference of a row to its base. Objects
too small or too covered to have such a position are left out, the same ones in all rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from b2inst.data import CocoIndex
from b2inst.evaluation.bootstrap import noise_band
from b2inst.experiments import Workspace, load_profile, load_table
from b2inst.experiments.runs.datasets import load_split, prepare, training_set
from b2inst.experiments.runs.provenance import describe_machine
from b2inst.experiments.runs.store import open_run, write_json
from b2inst.experiments.specs.data_spec import CocoData
from b2inst.experiments.specs.profile import Profile
from b2inst.experiments.specs.run_spec import Augmentation
from b2inst.models import with_bases
from b2inst.ops.quality import mask_quality
from b2inst.structures import Masks
from b2inst.weights import load_model

QUALITIES = ("mask IoU", "boundary Dice")
RESAMPLES = 1000


def main(
    table: Annotated[str, typer.Argument()],
    profile: Annotated[str, typer.Option()] = "tiny",
    data: Annotated[Path | None, typer.Option()] = None,
    seeds: Annotated[str, typer.Option()] = "0",
) -> None:
    """Measure every run, then compare the rows."""
    workspace = Workspace.here()
    plan = load_profile(profile, data=None if data is None else CocoData(root=data))
    plan = plan.model_copy(update={"data": prepare(plan.data, workspace.data)})
    index = load_split(plan.data, plan.data.report_split, workspace.data)
    spec = load_table(table)
    draws = np.random.default_rng(0).multinomial(
        len(index.images), np.full(len(index.images), 1 / len(index.images)), RESAMPLES
    )
    draws = np.concatenate([np.ones((1, len(index.images)), dtype=int), draws])
    means: dict[str, list[np.ndarray]] = {}
    rows = []
    for name, runs in spec.run_specs(plan, tuple(int(seed) for seed in seeds.split(","))).items():
        found = [open_run(workspace.runs, run) for run in runs]
        sums = [_measure(run.model_path, index, plan) for run in found]
        means[name] = [_resampled(of_run, draws) for of_run in sums]
        row: dict[str, Any] = {"row": name, "runs": [run.hash for run in found]}
        row["objects"] = int(sums[0][:, 0].sum())
        row |= _by_quality([float(m) for m in np.mean(means[name], axis=0)[0]])
        rows.append(row)
        typer.echo(row)
    asked = [(c.row, c.base) for c in spec.contrasts]
    differences = [
        {"row": a, "base": b} | _by_quality(_differences(means[a], means[b])) for a, b in asked
    ]
    for difference in differences:
        typer.echo(difference)
    write_json(
        workspace.results / plan.name / table / "true_boxes.json",
        {
            "unit": "percent; mean over objects, bands of 95 % over images (and seeds)",
            "images": len(index.images),
            "rows": rows,
            "differences": differences,
            "provenance": describe_machine(),
        },
    )


def _measure(weights: Path, index: CocoIndex, plan: Profile) -> np.ndarray:
    """Of each image the number of objects and the sums of their qualities: images×3."""
    model = with_bases(load_model(weights))
    assert model.scoring_head is not None
    shown: list[np.ndarray] = []

    def rate(
        features: object, boxes: object, masks: Masks, truths: list[torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        qualities = torch.stack(mask_quality(masks, torch.cat(truths)), dim=1)
        shown.append(np.array([len(qualities), *qualities.sum(dim=0).tolist()]))
        return {}

    # What the scoring head would learn from: the masks in true boxes, and the true masks.
    model.scoring_head.loss = rate  # type: ignore[method-assign]
    sizes = plan.augmentation
    still = Augmentation(
        shorter=(sorted(sizes.shorter)[len(sizes.shorter) // 2],),
        longer_max=sizes.longer_max,
        horizontal_flip=0,
    )
    images = training_set(index, still, fixed_size=model.preprocessor.fixed_size)
    for image, targets in (images[i] for i in range(len(images))):
        torch.manual_seed(0)  # of more positions than are masked in training, the same ones
        if len(targets):
            with torch.no_grad():
                model([image], [targets])
        else:
            shown.append(np.zeros(3))
    return np.stack(shown)


def _resampled(sums: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Mean qualities of the objects in each draw of images, percent: draws×2."""
    count, *qualities = (draws @ sums).T
    means: np.ndarray = 100 * np.stack(qualities, axis=1) / count[:, None]
    return means


def _differences(a: list[np.ndarray], b: list[np.ndarray]) -> list[dict[str, Any]]:
    found = []
    for i in range(len(QUALITIES)):
        noise = noise_band([m[:, i] for m in a], [m[:, i] for m in b])
        assert noise is not None
        band = (round(noise.band.low, 2), round(noise.band.high, 2))
        found.append({"mean": round(noise.band.mean, 2), "band95": band})
    return found


def _by_quality(values: list[Any]) -> dict[str, Any]:
    return dict(zip(QUALITIES, values, strict=True))


if __name__ == "__main__":
    typer.run(main)
