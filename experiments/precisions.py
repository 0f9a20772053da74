"""AP and speed of a model in each precision and exported format, on one split.

    .venv/bin/python experiments/precisions.py WEIGHTS DATA [--split test] [--calibrate DATA:train]

WEIGHTS is a ``.safetensors`` file of ``b2inst train`` or a table's run; exports need the extras
``onnx`` and ``openvino`` and are left out where these are missing. Everything runs on one thread.
Writes ``results/precisions.json``, from which docs/export.md has its table.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from tqdm import tqdm

from b2inst.data import CocoIndex, find_split
from b2inst.evaluation import evaluate, write_predictions
from b2inst.evaluation.ground_truth import load_ground_truth
from b2inst.evaluation.results import read_results
from b2inst.experiments import Workspace
from b2inst.experiments.runs.provenance import describe_machine, now
from b2inst.experiments.runs.store import write_json
from b2inst.export import calibration_files, export_model
from b2inst.weights import WeightsError, load_model

METRICS = ("AP", "AP50", "AP75", "boundary_AP")


def main(
    weights: Annotated[Path, typer.Argument(help="Trained weights.")],
    data: Annotated[Path, typer.Argument(help="COCO-format folder.")],
    split: str = "test",
    calibrate: Annotated[str | None, typer.Option(help="Default: DATA:train.")] = None,
    boundary_pixels: Annotated[int | None, typer.Option(help="Width of the band.")] = None,
) -> None:
    """Measure and write the rows."""
    torch.set_num_threads(1)
    provenance = describe_machine() | {"began": now()}
    index = CocoIndex.load(*find_split(data, split))
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (runtime, int8, precision) in (bar := tqdm(ROWS.items(), unit="row")):
            bar.set_postfix_str(name)
            try:
                path = weights
                if runtime is not None:
                    path = Path(folder) / f"{name}{SUFFIXES[runtime]}"
                    seen = calibration_files(calibrate or f"{data}:train", most=128)
                    export_model(weights, path, to=runtime, calibration=seen if int8 else None)
                model = load_model(path)
            except WeightsError as error:
                bar.write(f"{name}: left out, {error}")
                continue
            model.precision = precision
            rows[name] = measure(
                model, index, Path(folder) / "predictions.jsonl.gz", boundary_pixels
            )
            bar.write(f"{name}: {rows[name]}")
    content = {
        "model": load_model(weights).recipe["name"],
        "images": len(index),
        "split": split,
        "boundary_pixels": boundary_pixels,
        "rows": rows,
        "provenance": provenance,
    }
    write_json(Workspace.here().published / "precisions.json", content)


def measure(model: Any, index: CocoIndex, path: Path, boundary_pixels: int | None) -> Any:
    """AP in percent, and CPU seconds of one image (reading and encoding included)."""
    begin = time.process_time()
    write_predictions(model, index, path, progress=False)
    seconds = (time.process_time() - begin) / len(index)
    truth = load_ground_truth(index)
    found = evaluate(
        read_results(path, truth),
        truth,
        max_detections=model.max_detections,
        boundary_pixels=boundary_pixels,
    )
    return {name: found[name] for name in METRICS} | {"cpu_seconds": round(seconds, 4)}


SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}

#: Runtime, int8, precision.
ROWS: dict[str, tuple[str | None, bool, str]] = {
    "float32": (None, False, "float32"),
    "bfloat16": (None, False, "bfloat16"),
    "onnx": ("onnx", False, "float32"),
    "onnx-int8": ("onnx", True, "float32"),
    "openvino": ("openvino", False, "float32"),
    "openvino-bfloat16": ("openvino", False, "bfloat16"),
    "openvino-int8": ("openvino", True, "float32"),
}

if __name__ == "__main__":
    typer.run(main)
