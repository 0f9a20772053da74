"""What comparing two models costs at COCO's size: mask and boundary AP by the paired bootstrap.

    .venv/bin/python experiments/bootstrap_cost.py

Draws ground truth and detections of the size of val2017 (5,000 images of 640×480, some 36,800
objects of 80 classes in a long tail, 60 detections an image), writes them as files, compares these
with 1,000 resamples as ``b2inst compare`` does, and writes ``results/bootstrap_cost.json``.
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import typer
from pycocotools import mask as coco_mask

from b2inst.evaluation import Prediction
from b2inst.evaluation.bootstrap import compare
from b2inst.experiments import Workspace
from b2inst.experiments.runs.provenance import describe_machine
from b2inst.experiments.runs.store import write_json

HEIGHT, WIDTH, CLASSES, OBJECTS = 480, 640, 80, 7.36


def main(images: int = 5000, resamples: int = 1000, detections: int = 60) -> None:
    """Measure, print and store wall time and CPU time."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        truth = _truth(rng, images)
        files = [Path(folder) / f"{name}.json" for name in ("truth", "first", "second")]
        for file, shift in zip(files[1:], (3.0, 4.0), strict=True):
            file.write_text(json.dumps(_detections(rng, truth, images, detections, shift)))
        for annotation in truth["annotations"]:
            del annotation["outline"]
        files[0].write_text(json.dumps(truth))
        wall, cpu = time.perf_counter(), time.process_time()
        found = compare(
            files[1:2],
            files[2:],
            files[0],
            metrics=["AP", "boundary_AP"],
            resamples=resamples,
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    result = {
        "images": images,
        "objects": len(truth["annotations"]),
        "detections": images * detections,
        "resamples": resamples,
        "wall_seconds": round(wall, 1),
        "cpu_seconds": round(cpu, 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000),
        "differences": {
            metric: [round(v, 2) for v in (d.band.mean, d.band.low, d.band.high)]
            for metric, one in found.items()
            if (d := one.difference) is not None
        },
        "provenance": describe_machine(),
    }
    write_json(Workspace.here().results / "bootstrap_cost.json", result)
    typer.echo({key: value for key, value in result.items() if key != "provenance"})


def _truth(rng: np.random.Generator, images: int) -> dict[str, Any]:
    weights = 1 / np.arange(1, CLASSES + 1)
    annotations = []
    for number in range(round(OBJECTS * images)):
        outline = _outline(rng, radius=float(np.clip(rng.lognormal(3.4, 0.9), 4, 220)))
        code = _encode(outline)
        annotations.append(
            {
                "id": number + 1,
                "image_id": int(rng.integers(1, images + 1)),
                "category_id": int(rng.choice(CLASSES, p=weights / weights.sum())) + 1,
                "segmentation": code,
                "area": float(coco_mask.area(code)),
                "bbox": coco_mask.toBbox(code).tolist(),
                "iscrowd": int(rng.random() < 0.01),
                "outline": outline.tolist(),
            }
        )
    return {
        "images": [
            {"id": i + 1, "file_name": f"{i + 1}.jpg", "height": HEIGHT, "width": WIDTH}
            for i in range(images)
        ],
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": str(i + 1)} for i in range(CLASSES)],
    }


def _detections(
    rng: np.random.Generator, truth: dict[str, Any], images: int, count: int, shift: float
) -> list[Prediction]:
    """Copies of the objects with displaced outlines, and detections of nothing."""
    found = truth["annotations"]
    predictions = []
    for number in range(images * count):
        near = found[number] if number < len(found) else found[rng.integers(len(found))]
        hit = number < len(found) or rng.random() < 0.05
        outline = np.array(near["outline"]) + rng.normal(0, shift, 2)
        outline += rng.normal(0, shift / 2, outline.shape)
        code = _encode(outline)
        predictions.append(
            {
                "image_id": near["image_id"] if hit else int(rng.integers(1, images + 1)),
                "category_id": near["category_id"],
                "score": float(rng.beta(2, 2) if hit else rng.beta(1, 6)),
                "bbox": coco_mask.toBbox(code).tolist(),
                "segmentation": code,
            }
        )
    return predictions


def _outline(rng: np.random.Generator, *, radius: float) -> np.ndarray:
    """A wavy ellipse of 24 corners, x and y."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radii = radius * (1 + 0.15 * rng.normal(size=24)) * rng.uniform(0.6, 1)
    centre = rng.uniform((0, 0), (WIDTH, HEIGHT))
    return centre + radii[:, None] * np.stack([np.cos(angles), 1.4 * np.sin(angles)], axis=1)


def _encode(outline: np.ndarray) -> dict[str, Any]:
    inside = np.clip(outline, 0, (WIDTH, HEIGHT))
    (code,) = coco_mask.frPyObjects([inside.ravel().tolist()], HEIGHT, WIDTH)
    return {"size": code["size"], "counts": code["counts"].decode()}


if __name__ == "__main__":
    typer.run(main)
