"""Predict a data set into a prediction file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from b2inst.data import CocoIndex, ImageRecord, eval_images
from b2inst.evaluation.predictions import PredictionWriter
from b2inst.structures import Instances

Sample = tuple[ImageRecord, np.ndarray]


class Predictor(Protocol):
    """What :func:`write_predictions` needs of a model."""

    def predict(self, images: list[Any]) -> list[Instances]:
        """Instances of each image (H×W×3 uint8 RGB), in its pixels."""


def write_predictions(
    model: Predictor,
    index: CocoIndex,
    path: str | Path,
    *,
    batch_size: int = 1,
    progress: bool = True,
) -> None:
    """Predict the images of a data set, one batch in memory at a time.

    Args:
        model: any object with ``predict``, in evaluation mode.
        index: the images, and the COCO category id of each label.
        path: prediction file to write; it appears when all images are done.
        batch_size: images predicted together. Only neighbours of equal size are, so that no image
            is padded for another's sake and results depend on the batch size by rounding only.
        progress: show a progress bar.

    Raises:
        EvaluationError: the model predicts a NaN, or a label that the data have no category for.
        DataError: an image cannot be read.
    """
    with (
        PredictionWriter(path) as writer,
        tqdm(total=len(index), desc="predict", unit="image", disable=not progress) as bar,
    ):
        for batch in equal_size_batches(eval_images(index), batch_size):
            results = model.predict([image for _, image in batch])
            for (record, _), instances in zip(batch, results, strict=True):
                writer.write(record.id, instances, index.category_ids)
            bar.update(len(batch))


def equal_size_batches(samples: Iterator[Sample], batch_size: int) -> Iterator[list[Sample]]:
    """Consecutive samples of equal image size, at most ``batch_size`` together, in order."""
    batch: list[Sample] = []
    for sample in samples:
        if batch and (len(batch) == batch_size or sample[1].shape != batch[0][1].shape):
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch
