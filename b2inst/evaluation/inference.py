"""Predict a data set into a prediction file."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from b2inst.data import CocoIndex, ImageRecord, eval_images
from b2inst.data.wording import counted
from b2inst.evaluation.predictions import EvaluationError, Prediction, save_predictions, to_records
from b2inst.ops.ahead import ahead
from b2inst.ops.distributed import gathered, process_count, process_rank
from b2inst.structures import Instances

if TYPE_CHECKING:
    from b2inst.models import Segmenter


def write_predictions(
    model: Any,
    index: CocoIndex,
    path: str | Path,
    *,
    batch_size: int = 1,
    progress: bool = True,
) -> None:
    """Predict the images of a data set, holding one batch in memory at a time.

    Distributed processes share the batches; rank 0 writes all detections in the order of the
    images. The file does not depend on the number of processes.

    Args:
        model: Object in evaluation mode with ``predict``: a list of images (H×W×3 uint8 RGB) to
            the ``Instances`` of each. One with an ``oracle`` is given the annotated masks.
        index: Images, and the COCO category id of each label.
        path: Prediction file to write; it appears when all images are done.
        batch_size: Number of images predicted together, consecutive ones of equal size only: none
            is padded, and results depend on the batch size by rounding only.
        progress: Whether to show a progress bar.

    Raises:
        EvaluationError: A score or box is not finite, a label has no category, or the file cannot
            be written.
        DataError: An image cannot be read.
    """
    batches = list(equal_size_batches(index.images, batch_size))
    rank, processes = process_rank(), process_count()
    rounds = [batches[i : i + processes] for i in range(0, len(batches), processes)]
    own = [next(islice(batch, rank, None), []) for batch in rounds]  # each takes part in all rounds

    def predicted() -> Iterator[list[tuple[ImageRecord, Instances]]]:
        images = eval_images(index.subset(image.id for batch in own for image in batch))
        for batch in own:
            pixels = [image for _, image in islice(images, len(batch))]
            if batch and getattr(model, "oracle", None) is not None:
                found = model.predict_with_truth(pixels, [_true_masks(index, i) for i in batch])
            else:
                found = model.predict(pixels) if batch else []
            yield list(zip(batch, found, strict=True))

    def encoded(found: list[tuple[ImageRecord, Instances]]) -> list[Prediction]:
        return [
            record
            for image, one in found
            for record in to_records(image.id, one, index.category_ids, file=image.path)
        ]

    def records() -> Iterator[Prediction]:
        hidden = not progress or rank > 0
        with tqdm(total=len(index), desc="predict", unit="image", disable=hidden) as bar:
            own_records = ahead(encoded, predicted(), workers=1, most=1)
            for batch, found in zip(rounds, own_records, strict=True):
                for part in gathered(found):
                    yield from part
                bar.update(sum(map(len, batch)))

    if rank == 0:
        save_predictions(path, records())
    else:
        deque(records(), maxlen=0)


def check_classes(model: Segmenter, index: CocoIndex) -> None:
    """Raise EvaluationError if number or names of a model's classes are not those of the data.

    Warns if the model does not know the names, as after conversion from another library.
    """
    ours, theirs, file = model.class_names, index.class_names, index.annotation_file
    if (count := model.recipe["num_classes"]) != len(theirs):
        raise EvaluationError(
            f"{file}: has {counted(len(theirs), 'category', 'categories')}, the model "
            f"{counted(count, 'class', 'classes')}; give data of the same categories"
        )
    if ours is None:
        warnings.warn(
            "the model has no names of its classes; they are taken in the order of the data's: "
            f"{', '.join(theirs)}",
            stacklevel=2,
        )
    elif ours != theirs:
        place = next(i for i in range(count) if ours[i] != theirs[i])
        raise EvaluationError(
            f"{file}: category {place} is {theirs[place]!r} here and {ours[place]!r} in the model "
            f"({count} in all); give data of the same categories"
        )


def _true_masks(index: CocoIndex, image: ImageRecord) -> Tensor:
    """Masks of the annotated objects without crowds, N×H×W uint8."""
    masks = [a.mask() for a in index.annotations[image.id] if not a.crowd]
    return torch.from_numpy(np.array(masks, np.uint8).reshape(-1, image.height, image.width))


def equal_size_batches(
    images: Iterable[ImageRecord], batch_size: int
) -> Iterator[list[ImageRecord]]:
    """Yield consecutive images of equal size in lists of at most ``batch_size``."""
    for _, same in groupby(images, key=lambda image: (image.height, image.width)):
        while batch := list(islice(same, batch_size)):
            yield batch
