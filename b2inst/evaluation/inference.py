"""Predict a data set into a prediction file."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from tqdm import tqdm

from b2inst.data import CocoIndex, ImageRecord, eval_images
from b2inst.evaluation.errors import EvaluationError
from b2inst.evaluation.predictions import Prediction, PredictionWriter, to_records
from b2inst.ops.ahead import ahead
from b2inst.ops.distributed import gathered, process_count, process_rank
from b2inst.structures import Instances

if TYPE_CHECKING:
    from b2inst.models import ImageSegmenter


@runtime_checkable
class ToldPredictor(Protocol):
    """A model that is shown the truth: an oracle's bound, not a prediction."""

    def predict_told(self, images: list[Any], truths: list[Tensor]) -> list[Instances]:
        """``predict``, given the true masks of each image, N×H×W uint8."""


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

    Processes that have joined take turns at the batches; the first writes what all have found, in
    the order of the images. Batches and file are the same however many there are.

    Args:
        model: any object with ``predict``, in evaluation mode; one with ``predict_told`` is shown
            the annotated masks.
        index: the images, and the COCO category id of each label.
        path: prediction file to write; it appears when all images are done.
        batch_size: images predicted together. Only neighbours of equal size are, so that no image
            is padded for another's sake and results depend on the batch size by rounding only.
        progress: show a progress bar.

    Raises:
        EvaluationError: the model predicts a NaN, or a label that the data have no category for.
        DataError: an image cannot be read.
    """
    batches = list(equal_size_batches(index.images, batch_size))
    rank, processes = process_rank(), process_count()
    rounds = range(0, len(batches), processes)
    own = batches[rank::processes]
    own += [[]] * (len(rounds) - len(own))  # who has none left still hands in nothing

    def predicted() -> Iterator[tuple[list[ImageRecord], list[Instances]]]:
        images = eval_images(index.subset(image.id for batch in own for image in batch))
        for batch in own:
            yield batch, _predict(model, list(islice(images, len(batch))), index)

    def encoded(found: tuple[list[ImageRecord], list[Instances]]) -> list[Prediction]:
        return [
            record
            for image, instances in zip(*found, strict=True)
            for record in to_records(image.id, instances, index.category_ids, file=image.path)
        ]

    first = rank == 0
    with (
        PredictionWriter(path) if first else nullcontext() as writer,
        tqdm(
            total=len(index), desc="predict", unit="image", disable=not (progress and first)
        ) as bar,
    ):
        for start, records in zip(
            rounds, ahead(encoded, predicted(), workers=1, most=1), strict=True
        ):
            for found in gathered(records):
                assert writer is not None
                writer.append(found)
            bar.update(sum(map(len, batches[start : start + processes])))


def check_classes(model: ImageSegmenter, index: CocoIndex) -> None:
    """See that a model's classes are those of the data.

    Of a model that does not know their names, as one converted from a checkpoint, the classes are
    taken to be in the order of the data's; a warning says so.

    Raises:
        EvaluationError: if the classes are others, or more or fewer; names the first that differs.
    """
    ours, theirs = model.class_names, index.class_names
    if (count := model.recipe["num_classes"]) != len(theirs):
        raise EvaluationError(
            f"{index.annotation_file}: has {len(theirs)} categories, the model {count} classes; "
            "give data of the same categories"
        )
    if ours is None:
        warnings.warn(
            "the model has no names of its classes; they are taken in the order of the data's: "
            f"{', '.join(theirs)}",
            stacklevel=2,
        )
        return
    for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        if one != other:
            raise EvaluationError(
                f"{index.annotation_file}: category {place} is {other!r} here and {one!r} in the "
                f"model ({count} in all); give data of the same categories"
            )


def _predict(
    model: Predictor, batch: list[tuple[ImageRecord, Any]], index: CocoIndex
) -> list[Instances]:
    images = [image for _, image in batch]
    if not images:
        return []
    if isinstance(model, ToldPredictor):
        return model.predict_told(images, [_true_masks(index, record) for record, _ in batch])
    return model.predict(images)


def _true_masks(index: CocoIndex, record: ImageRecord) -> Tensor:
    """N×H×W uint8, of the objects of an image; crowds are none."""
    masks = torch.zeros((0, record.height, record.width), dtype=torch.uint8)
    single = [
        torch.from_numpy(annotation.mask(record.height, record.width))[None]
        for annotation in index.annotations[record.id]
        if not annotation.crowd
    ]
    return torch.cat([masks, *single])


def equal_size_batches(
    images: Iterable[ImageRecord], batch_size: int
) -> Iterator[list[ImageRecord]]:
    """Consecutive images of equal size, at most ``batch_size`` together, in order."""
    batch: list[ImageRecord] = []
    for image in images:
        if batch and (
            len(batch) == batch_size
            or (image.height, image.width) != (batch[0].height, batch[0].width)
        ):
            yield batch
            batch = []
        batch.append(image)
    if batch:
        yield batch
