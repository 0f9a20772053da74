"""Peers and our own models in one table.

    .venv/bin/b2inst table peers --profile nuclei
    .venv/bin/python experiments/peers/table.py DATA

Evaluates the peers' prediction files, which the records in ``results/nuclei/peers/records/`` name,
as our own were, and writes ``results/nuclei/peers/all.json`` and ``.md``. README.md beside this
script says what a record has.
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from b2inst.data import CocoIndex, find_split
from b2inst.data.wording import counted
from b2inst.evaluation import count_matches, evaluate
from b2inst.evaluation.ground_truth import load_ground_truth
from b2inst.evaluation.results import read_results
from b2inst.experiments import Workspace, load_profile
from b2inst.experiments.runs.measuring import area_ranges
from b2inst.experiments.runs.provenance import describe_machine
from b2inst.experiments.runs.store import read_json, write_json
from b2inst.experiments.specs.profile import Profile
from b2inst.experiments.tables.table_result import TableResult

PROFILE = "nuclei"

#: Heading and digits by what a line has.
COLUMNS: dict[str, tuple[str, int]] = {
    "AP": ("AP", 1),
    "AP75": ("AP75", 1),
    "boundary_AP": ("boundary AP", 1),
    "touching_AP": ("AP touching", 1),
    "dsb_AP50": ("DSB AP50", 1),
    "dsb_AP75": ("DSB AP75", 1),
    "dsb_AP90": ("DSB AP90", 1),
    "PQ": ("PQ", 1),
    "training_cpu_minutes": ("training, CPU minutes", 1),
    "ms_per_image": ("prediction, ms an image", 0),
    "parameters": ("parameters, millions", 2),
}

Line = dict[str, float | None]


def main(data: Annotated[Path, typer.Argument(help="Folder of `b2inst data nuclei`.")]) -> None:
    """Evaluate, store and print."""
    workspace = Workspace.here()
    plan = load_profile(PROFILE, workspace=workspace)
    folder = workspace.published / plan.name / "peers"
    index = CocoIndex.load(*find_split(data, "test"))
    lines = {
        record["name"]: peer_line(record, index, plan, workspace.root)
        for record in map(read_json, sorted((folder / "records").glob("*.json")))
    }
    if (folder / "peers.json").is_file():
        lines |= our_lines(TableResult.load(folder / "peers.json"), workspace)
    lines = dict(sorted(lines.items(), key=lambda item: item[1]["training_cpu_minutes"] or 0))
    write_json(folder / "all.json", {"rows": lines, "provenance": describe_machine()})
    (folder / "all.md").write_text(to_markdown(lines), encoding="utf-8")
    typer.echo(to_markdown(lines))


def peer_line(record: dict[str, Any], index: CocoIndex, plan: Profile, root: Path) -> Line:
    """What our evaluator says of a peer's predictions; ``tuned_predictions`` are those that count
    where a score threshold is needed."""
    truth = load_ground_truth(index)
    metrics = evaluate(
        read_results(root / record["predictions"], truth),
        truth,
        max_detections=plan.max_detections,
        boundary_pixels=plan.data.boundary_pixels,
        area_ranges=area_ranges(plan.data.area_bounds),
        groups=True,
    )
    counts = count_matches(
        read_results(root / record["tuned_predictions"], truth), truth, threshold=-math.inf
    )
    as_they_are = counts.resampled(np.ones((1, len(index)), dtype=np.int64))
    line = metrics | {name: float(values[0]) for name, values in as_they_are.items()}
    line |= {key: record.get(key) for key in ("training_cpu_minutes", "ms_per_image")}
    return {key: line.get(key) for key in COLUMNS} | {"parameters": record["parameters"] / 1e6}


def our_lines(table: TableResult, workspace: Workspace) -> dict[str, Line]:
    """The rows of our own table that have been run, means over their seeds."""
    lines = {}
    for row in (row for row in table.rows if row.status == "run"):
        line: Line = {name: cell.mean for name, cell in row.ours.items() if name in COLUMNS}
        runs = [workspace.published / table.profile / f"runs/{run}.json" for run in row.runs]
        steps = [read_json(run)["provenance"]["steps"]["train"] for run in runs]
        line["training_cpu_minutes"] = statistics.fmean(s["cpu_seconds"] for s in steps) / 60
        fps = row.ours["FPS"].mean
        line["ms_per_image"] = None if fps is None else 1000 / fps
        seeds = counted(len(runs), "seed")
        lines[f"{row.name} ({seeds})"] = {key: line.get(key) for key in COLUMNS}
    return lines


def to_markdown(lines: dict[str, Line]) -> str:
    """A line a row; – where nothing is known."""
    head = [heading for heading, _ in COLUMNS.values()]
    text = [f"| | {' | '.join(head)} |", "|---" * (1 + len(head)) + "|"]
    for name, line in lines.items():
        values = [(line[key], digits) for key, (_, digits) in COLUMNS.items()]
        cells = ["–" if value is None else f"{value:.{digits}f}" for value, digits in values]
        text.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    typer.run(main)
