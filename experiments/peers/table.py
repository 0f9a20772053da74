"""The peers beside our models: one table of everything under ``results/nuclei/peers/``.

    .venv/bin/python experiments/peers/table.py DATA

Evaluates the prediction files that the records there name, all with our evaluator, and writes
``results/nuclei/peers.json`` and ``.md``. README.md beside this script says what a record has.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from b2inst.data import CocoIndex, find_split
from b2inst.evaluation import evaluate
from b2inst.evaluation.ground_truth import load_ground_truth
from b2inst.evaluation.results import read_results
from b2inst.experiments import Workspace
from b2inst.experiments.provenance import describe_machine
from b2inst.experiments.store import write_json

#: Heading, digits, and what is shown: from a record, or from the metrics of its predictions.
COLUMNS: dict[str, tuple[int, Callable[[dict[str, Any]], float | None]]] = {
    "AP": (1, lambda row: row["metrics"]["AP"]),
    "AP75": (1, lambda row: row["metrics"]["AP75"]),
    "boundary AP": (1, lambda row: row["metrics"]["boundary_AP"]),
    "training, CPU minutes": (1, lambda row: row.get("training_cpu_minutes")),
    "prediction, ms an image": (0, lambda row: row.get("ms_per_image")),
    "parameters, millions": (2, lambda row: row.get("parameters") and row["parameters"] / 1e6),
}


def main(data: Annotated[Path, typer.Argument(help="Folder of `b2inst data nuclei`.")]) -> None:
    """Evaluate, store and print."""
    workspace = Workspace.here()
    truth = load_ground_truth(CocoIndex.load(*find_split(data, "test")))
    folder = workspace.results / "nuclei"
    files = sorted((folder / "peers").glob("*.json"))
    rows = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    for row in rows:
        row["metrics"] = measure(row, truth, workspace.root)
    rows.sort(key=lambda row: (row["budget_cpu_minutes"], row["name"]))
    machine = describe_machine()
    kept = ("name", *("budget_cpu_minutes", "training_cpu_minutes", "ms_per_image", "parameters"))
    content = [{key: row.get(key) for key in kept} | {"metrics": row["metrics"]} for row in rows]
    write_json(folder / "peers.json", {"rows": content, "provenance": machine})
    (folder / "peers.md").write_text(to_markdown(rows), encoding="utf-8")
    typer.echo(to_markdown(rows))


def measure(row: dict[str, Any], truth: Any, root: Path) -> dict[str, float | None]:
    """Metrics of a record's predictions; ``tuned_predictions`` are for those of one threshold."""
    return evaluate(read_results(root / row["predictions"], truth), truth)


def to_markdown(rows: list[dict[str, Any]]) -> str:
    """One line a record; – where a record does not say."""
    lines = [f"| | {' | '.join(COLUMNS)} |", "|---" * (1 + len(COLUMNS)) + "|"]
    for row in rows:
        values = [(digits, show(row)) for digits, show in COLUMNS.values()]
        cells = ["–" if value is None else f"{value:.{digits}f}" for digits, value in values]
        lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
