"""What do masks lose at the border of an image, where boxes are clipped before masks are pasted?

    .venv/bin/python experiments/overhanging_boxes.py table1 --row baseline --seeds 0,1,2

BlendMask's published code predicts a mask over its whole box, clips the box to the image, and
resizes the mask to what is left, which moves and squeezes it. So do our BlendMask and CenterMask.
Takes the runs of a table from the run store, predicts again with masks pasted into whole boxes, and
writes the differences to ``results/<profile>/<table>/overhanging_boxes.json``.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from torch import Tensor

from b2inst.evaluation import read_predictions, write_predictions
from b2inst.evaluation.bootstrap import noise_band
from b2inst.experiments import Workspace, load_profile, load_table
from b2inst.experiments.runs.datasets import load_split, prepare
from b2inst.experiments.runs.measuring import measure
from b2inst.experiments.runs.provenance import describe_machine
from b2inst.experiments.runs.store import open_run, write_json
from b2inst.ops.masks import paste_masks
from b2inst.structures import RoIMasks
from b2inst.weights import load_model

COLUMNS = ("AP", "AP75", "boundary_AP", "box_AP")


def main(
    table: Annotated[str, typer.Argument()],
    row: Annotated[list[str], typer.Option()],
    profile: Annotated[str, typer.Option()] = "tiny",
    seeds: Annotated[str, typer.Option()] = "0",
) -> None:
    """Evaluate the runs of each row again."""
    workspace, plan = Workspace.here(), load_profile(profile)
    plan = plan.model_copy(update={"data": prepare(plan.data, workspace.data)})
    split = plan.data.report_split
    index = load_split(plan.data, split, workspace.data)
    specs = load_table(table).run_specs(plan, tuple(int(seed) for seed in seeds.split(",")))
    RoIMasks.paste = paste_whole  # type: ignore[method-assign]
    rows = []
    for name in row:
        runs = [open_run(workspace.runs, spec) for spec in specs[name]]
        clipped = [run.resampled(plan.data.split_label(split)) for run in runs]
        whole = []
        for run, spec in zip(runs, specs[name], strict=True):
            with TemporaryDirectory() as folder:
                predictions = Path(folder) / "predictions.jsonl.gz"
                write_predictions(
                    load_model(run.model_path), index, predictions, batch_size=plan.machine.batch
                )
                whole.append(measure(read_predictions(predictions), index, spec).resampled)
        differences = {}
        for column in COLUMNS:
            noise = noise_band([w[column] for w in whole], [c[column] for c in clipped])
            assert noise is not None
            low, high = round(noise.band.low, 2), round(noise.band.high, 2)
            differences[column] = {"mean": round(noise.band.mean, 2), "band95": (low, high)}
        rows.append({"row": name, "runs": [run.hash for run in runs], "whole": differences})
        typer.echo(rows[-1])
    write_json(
        workspace.results / profile / table / "overhanging_boxes.json",
        {
            "unit": "percent; whole boxes minus clipped ones, bands of 95 % over images and seeds",
            "rows": rows,
            "provenance": describe_machine(),
        },
    )


def paste_whole(
    self: RoIMasks, boxes: Tensor, size: tuple[int, int], frame: tuple[int, int]
) -> Tensor:
    """Paste as ``RoIMasks.paste`` does, but into boxes that are not clipped."""
    scale = boxes.new_tensor([size[1] / frame[1], size[0] / frame[0]] * 2)
    return paste_masks(self.probabilities, self.boxes * scale, size)


if __name__ == "__main__":
    typer.run(main)
