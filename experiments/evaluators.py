"""Mask AP of one prediction file by public evaluators and by ours.

    .venv/bin/python experiments/evaluators.py DATA PREDICTIONS [--split val2017]

DATA is a folder in COCO format, PREDICTIONS any file that `b2inst eval` takes. Each evaluator runs
in a process and an environment of its own (`evaluator_calls.py`), made where it is missing; the one
with PyTorch takes some GB. Rows in italics change one thing, to tell where differences come from.
Writes ``results/evaluators.json`` and ``.md``; docs/evaluation.md says what follows.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from b2inst.data import CocoIndex, find_split
from b2inst.evaluation import evaluate
from b2inst.evaluation.ground_truth import load_ground_truth
from b2inst.evaluation.results import read_results
from b2inst.experiments import Workspace
from b2inst.experiments.runs.provenance import describe_machine
from b2inst.experiments.runs.store import write_json

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")

#: What is installed in each environment.
PACKAGES = {
    "numpy": (
        *("pycocotools==2.0.11", "faster-coco-eval==1.8.0"),
        *("hotcoco==1.3.0", "supervision==0.31.2"),
    ),
    # lvis needs numpy.float, which later versions have not.
    "lvis": (
        *("lvis==0.5.3", "pycocotools==2.0.11", "numpy==1.23.5"),
        *("opencv-python==4.9.0.80", "matplotlib==3.8.4"),
    ),
    "torch": (
        *("torch==2.14.1", "torchvision==0.29.1", "pycocotools==2.0.11"),
        *("torchmetrics==1.9.0", "ultralytics==8.4.190"),
    ),
}

#: Environment and function of ``evaluator_calls`` by the name of the row.
ROWS = {
    "pycocotools 2.0.11": ("numpy", "pycocotools"),
    "*its results without boxes*": ("numpy", "without_boxes"),
    "*its ground truth without crowds*": ("numpy", "without_crowds"),
    "*its ground truth's crowds as objects*": ("numpy", "crowds_as_objects"),
    "*scores rounded to one digit*": ("numpy", "ties"),
    "*the same, file from last to first*": ("numpy", "ties_in_reverse"),
    "faster-coco-eval 1.8.0": ("numpy", "faster_coco_eval"),
    "hotcoco 1.3.0": ("numpy", "hotcoco"),
    "supervision 0.31.2": ("numpy", "supervision"),
    "torchmetrics 1.9.0": ("torch", "torchmetrics"),
    "*its recall thresholds in doubles*": ("torch", "torchmetrics_in_doubles"),
    "lvis 0.5.3": ("lvis", "lvis"),
    "Ultralytics 8.4.190": ("torch", "ultralytics"),
    "*its precision in steps*": ("torch", "ultralytics_in_steps"),
}

Values = dict[str, float | None]


def main(
    data: Annotated[Path, typer.Argument(help="Folder in COCO format.")],
    predictions: Annotated[Path, typer.Argument(help="Prediction file for its split.")],
    split: Annotated[str, typer.Option()] = "val2017",
    environments: Annotated[Path, typer.Option(help="Made where missing.")] = Path(
        "runs/evaluators"
    ),
) -> None:
    """Run all evaluators, print and store the table."""
    index = CocoIndex.load(*find_split(data, split))
    truth = load_ground_truth(index)
    kept = ("image_id", "category_id", "score", "bbox", "segmentation")
    results = [{key: r[key] for key in kept} for r in read_results(predictions, truth)]
    found = {"b2inst": evaluate(results, truth)}
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{name}.json" for name in ("truth", "results")]
        for file, content in zip(files, (truth.dataset, results), strict=True):
            file.write_text(json.dumps(content))
        for row, (environment, call) in ROWS.items():
            python = _environment(environments / environment, PACKAGES[environment])
            found[row] = _run(python, call, *files)
            typer.echo(f"{row}: {found[row]['AP']}")
    first = next(iter(ROWS))
    result = {
        "percent": found,
        "packages": PACKAGES,
        "data": {
            "images": len(index),
            "annotations": sum(map(len, index.annotations.values())),
            "crowds": sum(a.crowd for a in index.all_annotations()),
            "detections": len(results),
            "sha256": {
                "annotations": _sha256(index.annotation_file),
                "predictions": _sha256(predictions),
            },
        },
        "provenance": describe_machine(),
    }
    folder = Workspace.here().results
    write_json(folder / "evaluators.json", result)
    table = _table({first: found[first], "b2inst": found["b2inst"]} | found)
    (folder / "evaluators.md").write_text(table, encoding="utf-8")
    typer.echo(table)


def _environment(folder: Path, packages: tuple[str, ...]) -> Path:
    """The Python of an environment with these packages."""
    python, installed = folder / "bin/python", folder / "installed.txt"
    if not installed.is_file() or installed.read_text() != "\n".join(packages):
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        installed.write_text("\n".join(packages))
    return python


def _run(python: Path, call: str, truth: Path, results: Path) -> Values:
    script = Path(__file__).with_name("evaluator_calls.py")
    done = subprocess.run(
        [python, "-W", "ignore", script, call, truth, results],
        env=os.environ | {"YOLO_CONFIG_DIR": str(python.parents[1])},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    values = json.loads(done.stdout.splitlines()[-1])
    return {n: None if v is None else 100 * v for n, v in zip(METRICS, values, strict=True)}


def _table(found: dict[str, Any]) -> str:
    """Markdown, with differences of AP to the first row."""
    lines = [f"| | {' | '.join(METRICS)} | difference of AP |", "|---" * 8 + "|"]
    reference = next(iter(found.values()))["AP"]
    for row, values in found.items():
        cells = ["–" if (v := values[name]) is None else f"{v:.4f}" for name in METRICS]
        cells.append(f"{values['AP'] - reference:+.4f}")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


if __name__ == "__main__":
    typer.run(main)
