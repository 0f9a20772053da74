"""StarDist on nuclei, as the notebooks of its documentation train and tune it.

    PYTHON stardist_nuclei.py train DATA FOLDER --cpu-minutes 6
    PYTHON stardist_nuclei.py predict DATA FOLDER

``run.py`` runs both with the Python of StarDist's environment. What is not set is StarDist's
default.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from coco_files import Array, read_split, to_labels, to_results, write_json
from csbdeep.utils import normalize
from stardist import fill_label_holes
from stardist.matching import matching_dataset
from stardist.models import Config2D, StarDist2D
from tensorflow import keras

STEPS_PER_EPOCH = 100  # StarDist's default
PATIENCE = 40 / 400  # of the epochs, without improvement, before the learning rate is halved
LOW_PROBABILITY = 0.05  # of the detections for AP, which also counts those below the threshold
IOUS = [round(0.5 + 0.05 * k, 2) for k in range(10)]


class CpuBudget(keras.callbacks.Callback):
    """Stop when this process has used its CPU time, and fit the learning rate's patience to it."""

    def __init__(self, seconds: float, plateau: keras.callbacks.ReduceLROnPlateau) -> None:
        super().__init__()
        self.seconds, self.plateau, self.steps = seconds, plateau, 0
        self.start = time.process_time()

    @property
    def used(self) -> float:
        return time.process_time() - self.start

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps += 1
        self.model.stop_training = self.used >= self.seconds

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch == 0:
            self.plateau.patience = max(1, round(PATIENCE * self.seconds / self.used))


def train(data: Path, folder: Path, *, cpu_minutes: float, seed: int) -> None:
    """Train from scratch and tune both thresholds on the validation split."""
    keras.utils.set_random_seed(seed)
    config = Config2D(n_rays=32, grid=(2, 2), n_channel_in=3, train_tensorboard=False)
    model = StarDist2D(config, name="model", basedir=str(folder))
    train_set, val_set = (_pairs(data, split) for split in ("train", "val"))
    model.prepare_for_training()
    plateaus = (c for c in model.callbacks if isinstance(c, keras.callbacks.ReduceLROnPlateau))
    budget = CpuBudget(60 * cpu_minutes, next(plateaus))
    model.callbacks.append(budget)
    model.train(
        *train_set,
        validation_data=val_set,
        augmenter=augment,
        epochs=10_000,  # the budget ends it
        steps_per_epoch=STEPS_PER_EPOCH,
    )
    used, before = budget.used, time.process_time()
    thresholds = model.optimize_thresholds(*val_set)
    record = {
        "training_cpu_minutes": used / 60,
        "steps": budget.steps,
        "batch": config.train_batch_size,
        "patience": budget.plateau.patience,
        "tuning_cpu_minutes": (time.process_time() - before) / 60,
        "thresholds": thresholds,
        "parameters": model.keras_model.count_params(),
        "training_peak_memory_mb": _peak_memory_mb(),
    }
    write_json(folder / "train.json", record)


def predict(data: Path, folder: Path) -> None:
    """Predict the test split twice: all detections for AP, then those above the threshold."""
    model = StarDist2D(None, name="model", basedir=str(folder))
    everything, tuned, milliseconds, truths, found = [], [], [], [], []
    split = list(read_split(data, "test"))
    for image_id, _, image, _ in split:  # also warms up for each image size
        labels, scores = _instances(model, image, prob_thresh=LOW_PROBABILITY)
        everything += _results(image_id, labels, scores)
    for image_id, _, image, masks in split:
        begin = time.perf_counter()
        labels, scores = _instances(model, image)
        milliseconds.append(1000 * (time.perf_counter() - begin))
        tuned += _results(image_id, labels, scores)
        found.append(labels)
        truths.append(to_labels(masks, labels.shape))
    own = matching_dataset(truths, found, thresh=IOUS, show_progress=False)
    write_json(folder / "test.json", everything)
    write_json(folder / "test.tuned.json", tuned)
    names = ("accuracy", "precision", "recall", "f1", "panoptic_quality")
    record = {
        "ms_per_image": statistics.median(milliseconds),
        "mean_ms_per_image": statistics.mean(milliseconds),
        "own_metrics": {str(at.thresh): {n: float(getattr(at, n)) for n in names} for at in own},
        "versions": {name: version(name) for name in ("stardist", "csbdeep", "tensorflow-cpu")},
    }
    write_json(folder / "predict.json", record)


def augment(image: Array, labels: Array) -> tuple[Array, Array]:
    """Flips, quarter turns, intensity and noise, as far as StarDist's training example has them."""
    turns = np.random.randint(4)  # noqa: NPY002 - StarDist draws its patches from it too
    image, labels = np.rot90(image, turns), np.rot90(labels, turns)
    if np.random.rand() < 0.5:  # noqa: NPY002
        image, labels = image[::-1], labels[::-1]
    gain, offset = np.random.uniform(0.6, 2), np.random.uniform(-0.2, 0.2)  # noqa: NPY002
    noise = np.random.normal(0, 0.02 * np.random.rand(), image.shape)  # noqa: NPY002
    return image * gain + offset + noise, labels


def _pairs(data: Path, split: str) -> tuple[list[Array], list[Array]]:
    """Normalized images and label images without holes."""
    pairs = [
        (_normalized(image), fill_label_holes(to_labels(masks, image.shape[:2])))
        for _, _, image, masks in read_split(data, split)
    ]
    return [image for image, _ in pairs], [labels for _, labels in pairs]


def _normalized(image: Array) -> Array:
    return normalize(image, 1, 99.8, axis=(0, 1, 2))  # channels jointly: colours stay


def _instances(model: StarDist2D, image: Array, **options: float) -> tuple[Array, Array]:
    labels, details = model.predict_instances(_normalized(image), **options)
    return labels, details["prob"]


def _results(image_id: int, labels: Array, scores: Array) -> list[Any]:
    best = np.argsort(-scores, kind="stable")
    return to_results(image_id, (labels == i + 1 for i in best), scores[best])


def _peak_memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=("train", "predict"))
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cpu-minutes", type=float, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.stage == "train":
        train(options.data, options.folder, cpu_minutes=options.cpu_minutes, seed=options.seed)
    else:
        predict(options.data, options.folder)
