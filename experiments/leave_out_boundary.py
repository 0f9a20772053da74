"""Does a trained mask use the boundary basis? Set it to zero at test time and evaluate again.

    .venv/bin/python experiments/leave_out_boundary.py --seeds 0,1,2

Takes Table 1's HBB runs from the run store (``make table1`` makes them) and writes
``results/<profile>/hbb/leave_out.json``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from torch import nn

from b2inst import load_model
from b2inst.evaluation import evaluate, read_predictions, write_predictions
from b2inst.experiments import Workspace, load_profile, load_table
from b2inst.experiments.runs.datasets import load_split, prepare
from b2inst.experiments.runs.measuring import area_ranges
from b2inst.experiments.runs.provenance import describe_machine
from b2inst.experiments.runs.store import open_run, write_json
from b2inst.structures import Bases

COLUMNS = ("AP", "AP75", "boundary_AP")


def main(
    profile: Annotated[str, typer.Option()] = "tiny",
    seeds: Annotated[str, typer.Option()] = "0",
) -> None:
    """Evaluate each HBB run with and without its boundary basis."""
    workspace, plan = Workspace.here(), load_profile(profile)
    index = load_split(prepare(plan.data, workspace.data), plan.data.report_split, workspace.data)
    specs = load_table("table1").run_specs(plan, tuple(int(seed) for seed in seeds.split(",")))
    rows = []
    for spec in specs["HBB"]:
        run = open_run(workspace.runs, spec)
        row: dict[str, Any] = {"run": run.hash, "seed": spec.seed}
        for name, handler in (("with", None), ("without", _silence)):
            model = load_model(run.model_path)
            if handler is not None:
                model.basis_head.register_forward_hook(handler)  # type: ignore[attr-defined]
            with TemporaryDirectory() as folder:
                predictions = Path(folder) / "predictions.jsonl.gz"
                write_predictions(model, index, predictions, batch_size=plan.machine.batch)
                metrics = evaluate(
                    read_predictions(predictions),
                    index.annotation_file,
                    area_ranges=area_ranges(plan.data.area_bounds),
                )
            row[name] = {column: metrics[column] for column in COLUMNS}
        rows.append(row)
        typer.echo(row)
    write_json(
        workspace.results / profile / "hbb" / "leave_out.json",
        {"rows": rows, "provenance": describe_machine()},
    )


def _silence(module: nn.Module, inputs: object, bases: Bases) -> Bases:
    maps = bases.maps.clone()
    maps[:, -1] = 0
    return replace(bases, maps=maps)


if __name__ == "__main__":
    typer.run(main)
