"""What do trained masks make of another boundary? Exchange it at test time and evaluate again.

    .venv/bin/python experiments/other_boundaries.py --seeds 0,1

Takes HBB and the gates from the runs of ``make beyond`` and writes
``results/<profile>/beyond/other_boundaries.json``: AP of the same detections with the boundary that
the model predicts, with none, with that of another image, and with the true one. Masks are ranked
by S_class, so that they alone make the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from b2inst import load_model
from b2inst.data import CocoIndex
from b2inst.evaluation import evaluate, ranked_by_class, read_predictions, write_predictions
from b2inst.experiments import Workspace, load_profile, load_table
from b2inst.experiments.runs.datasets import load_split, prepare
from b2inst.experiments.runs.measuring import area_ranges
from b2inst.experiments.runs.provenance import describe_machine
from b2inst.experiments.runs.store import open_run, write_json
from b2inst.experiments.specs.profile import Profile
from b2inst.models import with_bases
from b2inst.modules.boundary_basis import OracleBoundary
from b2inst.structures import Bases

#: By row, what of its boundary is exchanged.
EXCHANGED = (
    ("HBB", "basis"),
    ("gate, unsupervised", "gate"),
    ("gate", "gate"),
    ("gate + convolutions", "gate"),
    ("basis and gate", "basis"),
    ("basis and gate", "gate"),
)
#: A logit that says there is none: as a basis 0 adds nothing, and a gate of -20 is open.
NOTHING = {"basis": 0.0, "gate": -20.0}
COLUMNS = ("AP", "AP75", "boundary_AP")

Exchange = Callable[[Bases], Tensor]


def main(
    profile: Annotated[str, typer.Option()] = "beyond",
    seeds: Annotated[str, typer.Option()] = "0",
) -> None:
    """Evaluate each run with each boundary."""
    workspace, plan = Workspace.here(), load_profile(profile)
    data = prepare(plan.data, workspace.data)
    index = load_split(data, data.report_split, workspace.data)
    specs = load_table("beyond").run_specs(
        plan.model_copy(update={"data": data}), tuple(int(seed) for seed in seeds.split(","))
    )
    rows = []
    for name, use in EXCHANGED:
        for spec in specs[name]:
            run = open_run(workspace.runs, spec)
            row: dict[str, Any] = {
                "row": name,
                "exchanged": use,
                "run": run.hash,
                "seed": spec.seed,
            }
            for boundary, exchange in (
                ("own", None),
                ("none", nothing(use)),
                ("of another image", of_another),
                ("true", true_boundary(index, two_sided=name != "HBB")),
            ):
                metrics = _evaluate(run.model_path, index, exchange, use, plan)
                row[boundary] = {column: metrics[column] for column in COLUMNS}
            rows.append(row)
            typer.echo(row)
    write_json(
        workspace.results / profile / "beyond" / "other_boundaries.json",
        {"ranking": "S_class", "rows": rows, "provenance": describe_machine()},
    )


def nothing(use: str) -> Exchange:
    """A basis that adds nothing, or a gate that is open everywhere."""

    def exchange(bases: Bases) -> Tensor:
        return torch.full_like(_of(bases), NOTHING[use])

    return exchange


def of_another(bases: Bases) -> Tensor:
    """That of the image before, in its batch."""
    return _of(bases).roll(1, dims=0)


def true_boundary(index: CocoIndex, *, two_sided: bool) -> Exchange:
    """That of the annotations; the images come in the order of the index, at their own size."""
    oracle, truths = OracleBoundary(two_sided=two_sided), _masks(index)

    def exchange(bases: Bases) -> Tensor:
        shown = oracle(bases, [next(truths) for _ in bases.maps])
        return _of(shown)

    return exchange


def exchanged(bases: Bases, boundary: Tensor, use: str) -> Bases:
    """The bases with another boundary in one of its uses; in the other it stays."""
    if use == "gate":
        return replace(bases, boundary_logits=boundary)
    return replace(bases, maps=torch.cat([bases.maps[:, :-1], boundary], dim=1))


def _masks(index: CocoIndex) -> Iterator[Tensor]:
    for image in index.images:
        found = [
            torch.from_numpy(a.mask())[None] for a in index.annotations[image.id] if not a.crowd
        ]
        yield torch.cat([torch.zeros((0, image.height, image.width), dtype=torch.uint8), *found])


def _evaluate(
    weights: Path, index: CocoIndex, exchange: Exchange | None, use: str, plan: Profile
) -> dict[str, float | None]:
    model = with_bases(load_model(weights))
    if exchange is not None:

        def other(module: object, inputs: object, bases: Bases) -> Bases:
            return exchanged(bases, exchange(bases), use)

        model.basis_head.register_forward_hook(other)  # type: ignore[attr-defined]
    with TemporaryDirectory() as folder:
        predictions = Path(folder) / "predictions.jsonl.gz"
        write_predictions(model, index, predictions, batch_size=plan.machine.batch)
        return evaluate(
            ranked_by_class(read_predictions(predictions)),
            index.annotation_file,
            area_ranges=area_ranges(plan.data.area_bounds),
        )


def _of(bases: Bases) -> Tensor:
    assert bases.boundary_logits is not None
    return bases.boundary_logits


if __name__ == "__main__":
    typer.run(main)
