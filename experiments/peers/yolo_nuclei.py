"""The smallest Ultralytics segmenter on nuclei, from its YAML, without pretrained weights.

    PYTHON yolo_nuclei.py train DATA FOLDER --cpu-minutes 6
    PYTHON yolo_nuclei.py predict DATA FOLDER

``run.py`` runs both with the Python of Ultralytics' environment. What is not set is Ultralytics'
default.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from coco_files import MAX_DETECTIONS, Array, read_split, to_results, write_json

MODEL = "yolo26n-seg.yaml"
LOW_CONFIDENCE = 0.001  # of the detections for AP, as Ultralytics' validation has it
CLOSE_MOSAIC = 10 / 100  # of the epochs; the defaults are 10 and 3 of 100
WARMUP = 3 / 100
TIMED_BATCHES = 6
#: Validation compares masks at a quarter of the input's size, of padded images, unless told so.
FULL_SIZE = {"save_json": True, "mask_ratio": 1, "rect": False}
FINER = 4  # outlines are drawn on masks enlarged by this, to run along the pixels' outer sides


class _Enough(Exception):
    pass


def train(
    data: Path, folder: Path, *, cpu_minutes: float, seed: int, image_size: int, batch: int
) -> None:
    """Train from scratch for as many epochs as the CPU time allows, with the whole schedule."""
    options: dict[str, Any] = {
        "data": _yolo_data(data, folder),
        "imgsz": image_size,
        "batch": batch,
        "nbs": batch,  # an optimizer step each batch: there are few
        "flipud": 0.5,  # a microscope has no up and down
        "max_det": MAX_DETECTIONS,
        "pretrained": False,
        "seed": seed,
        "cache": "ram",
        "workers": 0,  # all CPU time is this process's
        "val": False,
        "plots": False,
        "device": "cpu",
        "project": str(folder.resolve()),
        "exist_ok": True,
    }
    images = sum(1 for _ in (folder / "data/images/train").iterdir())
    batches = -(-images // batch)
    seconds = _seconds_of_batch(options)
    epochs = max(1, int(60 * cpu_minutes / (seconds * batches)))
    model, budget = _model(), CpuBudget(60 * cpu_minutes)
    model.add_callback("on_train_start", budget.begin)
    model.add_callback("on_train_batch_end", budget.check)
    model.train(
        **options,
        name="trained",
        epochs=epochs,
        close_mosaic=round(CLOSE_MOSAIC * epochs),
        warmup_epochs=WARMUP * epochs,
    )
    validation = _validate(folder, "val", image_size, **FULL_SIZE)
    record = {
        "training_cpu_minutes": budget.used / 60,
        "steps": budget.steps,
        "epochs": epochs,
        "batch": batch,
        "seconds_of_batch": seconds,
        "image_size": image_size,
        "thresholds": {"confidence": _best_confidence(validation)},
        "own_validation_metrics_of_full_size": _floats(validation),
        "training_peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6,
    }
    write_json(folder / "train.json", record)


class CpuBudget:
    """Stops the training when this process has used its CPU time."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.used, self.steps = seconds, 0.0, 0

    def begin(self, trainer: Any) -> None:
        self.start = time.process_time()

    def check(self, trainer: Any) -> None:
        self.steps += 1
        self.used = time.process_time() - self.start
        trainer.stop |= self.used >= self.seconds


def predict(data: Path, folder: Path) -> None:
    """Predict the test split twice: all detections for AP, then those above the threshold."""
    trained = json.loads((folder / "train.json").read_text())
    image_size = trained["image_size"]
    options = {
        "imgsz": image_size,
        "max_det": MAX_DETECTIONS,
        "retina_masks": True,  # masks of the image's own size
        "verbose": False,
        "device": "cpu",
    }
    model, confidence = _model(folder), trained["thresholds"]["confidence"]
    everything, tuned, milliseconds = [], [], []
    split = list(read_split(data, "test"))
    for image_id, _, image, _ in split:  # also warms up for each image size
        found = model.predict(_bgr(image), conf=LOW_CONFIDENCE, **options)
        everything += _results(image_id, found[0])
    for image_id, _, image, _ in split:
        begin = time.perf_counter()
        found = model.predict(_bgr(image), conf=confidence, **options)
        milliseconds.append(1000 * (time.perf_counter() - begin))
        tuned += _results(image_id, found[0])
    write_json(folder / "test.json", everything)
    write_json(folder / "test.tuned.json", tuned)
    record = {
        "ms_per_image": statistics.median(milliseconds),
        "mean_ms_per_image": statistics.mean(milliseconds),
        "parameters": sum(p.numel() for p in _model(folder).model.fuse().parameters()),
        "own_metrics": _floats(_validate(folder, "test", image_size)),
        "own_metrics_of_full_size": _floats(_validate(folder, "test", image_size, **FULL_SIZE)),
        "versions": {name: version(name) for name in ("ultralytics", "torch")},
    }
    write_json(folder / "predict.json", record)


def polygon(mask: Array) -> Array:
    """Outline (N×2; x, y in pixels) of the largest piece of a mask (H×W, bool), without holes."""
    finer = mask.astype(np.uint8).repeat(FINER, 0).repeat(FINER, 1)
    pieces, _ = cv2.findContours(finer, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return (max(pieces, key=cv2.contourArea)[:, 0] + 0.5) / FINER


def _yolo_data(data: Path, folder: Path) -> str:
    """Write images and labels as Ultralytics reads them; returns the YAML file that says where."""
    root = folder.resolve() / "data"
    for split in ("train", "val", "test"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        for _, path, image, masks in read_split(data, split):
            shutil.copyfile(path, root / "images" / split / path.name)
            outlines = [polygon(mask) / image.shape[1::-1] for mask in masks]
            lines = (" ".join(f"{v:.6f}" for v in outline.ravel()) for outline in outlines)
            label = root / "labels" / split / f"{path.stem}.txt"
            label.write_text("".join(f"0 {line}\n" for line in lines))
    config = {"path": str(root), "names": {0: "nucleus"}}
    config |= {split: f"images/{split}" for split in ("train", "val", "test")}
    write_json(root / "data.yaml", config)  # JSON is YAML
    return str(root / "data.yaml")


def _seconds_of_batch(options: dict[str, Any]) -> float:
    """CPU time of a training step, by a few of them."""
    times: list[float] = []

    def tick(trainer: Any) -> None:
        times.append(time.process_time())
        if len(times) > TIMED_BATCHES:
            raise _Enough

    model = _model()
    model.add_callback("on_train_batch_end", tick)
    try:
        model.train(**options, name="timed", close_mosaic=0)
    except _Enough:
        return (times[-1] - times[0]) / TIMED_BATCHES
    raise RuntimeError("too few images to time a training step; add images or lower the batch")


def _validate(folder: Path, split: str, image_size: int, **options: Any) -> Any:
    """Ultralytics' own metrics of the trained model."""
    return _model(folder).val(
        data=str(folder / "data/data.yaml"),
        split=split,
        imgsz=image_size,
        max_det=MAX_DETECTIONS,
        workers=0,
        plots=False,
        device="cpu",
        project=str(folder.resolve()),
        name="validated",
        exist_ok=True,
        **options,
    )


def _best_confidence(metrics: Any) -> float:
    """The confidence of the best F1 of masks."""
    best = np.argmax(metrics.seg.f1_curve.mean(0))
    return max(LOW_CONFIDENCE, float(metrics.seg.px[best]))


def _floats(metrics: Any) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.results_dict.items()}


def _model(folder: Path | None = None) -> Any:
    """The trained model of a folder, or a new one."""
    from ultralytics import YOLO
    from ultralytics.utils import torch_utils

    torch_utils.NUM_THREADS = int(os.environ.get("OMP_NUM_THREADS", 1))  # it sets torch's by this
    return YOLO(MODEL if folder is None else folder / "trained/weights/last.pt")


def _bgr(image: Array) -> Array:
    return np.ascontiguousarray(image[..., ::-1])


def _results(image_id: int, found: Any) -> list[Any]:
    if found.masks is None:
        return []
    scores = found.boxes.conf.numpy()
    best = np.argsort(-scores, kind="stable")
    return to_results(image_id, (found.masks.data[i].numpy() > 0.5 for i in best), scores[best])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("train", "predict"))
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cpu-minutes", type=float, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    options = vars(parser.parse_args())
    stage, data, folder = (options.pop(name) for name in ("stage", "data", "folder"))
    if stage == "train":
        train(data, folder, **options)
    else:
        predict(data, folder)
