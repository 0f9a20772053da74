"""Batches for training, and images for evaluation.

The samples of iteration k depend on the seed and k alone: not on interruptions, nor on the number
of workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from b2inst.data.coco import CocoIndex
from b2inst.data.dataset import CocoDataset
from b2inst.data.errors import DataError
from b2inst.data.images import Bytes, ImageRecord, as_array, read_record
from b2inst.ops.ahead import ahead
from b2inst.structures import Targets

Sample = tuple[Tensor, Targets]
Batch = tuple[list[Tensor], list[Targets]]
_Position = tuple[int, int]  # position in the endless sequence of samples, index of the image


def train_loader(
    dataset: CocoDataset,
    *,
    batch_size: int,
    seed: int,
    start_iteration: int = 0,
    num_workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    aspect_grouping: bool = False,
) -> DataLoader[Batch]:
    """An endless loader of ``(images, targets)`` lists, one permutation after another.

    Args:
        dataset: Images to draw from.
        batch_size: Images per iteration over all devices.
        seed: Seed of order and augmentation.
        start_iteration: Number of batches to leave out, for resuming.
        num_workers: Processes that load images (0: this one).
        rank: This process gets every ``world_size``-th image of the batch, from the rank-th on.
        world_size: Number of processes that train.
        aspect_grouping: Whether no batch mixes upright and wide images, which saves padding.

    Raises:
        DataError: There are no images.
        ValueError: The batch does not divide by the number of processes.
    """
    if batch_size < 1 or batch_size % world_size:
        raise ValueError(
            f"batch_size {batch_size} does not divide over {world_size} processes; "
            f"choose a multiple of {world_size}"
        )
    if not len(dataset):
        raise DataError(f"{dataset.index.annotation_file}: no images to train on")
    share = slice(rank, None, world_size)
    sampler = _EndlessBatches(
        dataset.index, batch_size, seed, start_iteration, share, aspect_grouping
    )
    loader: DataLoader[Any] = DataLoader(
        _Seeded(dataset, seed),
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
        persistent_workers=num_workers > 0,
        generator=torch.Generator().manual_seed(seed),  # else it draws from the global one
    )
    return loader


def collate(samples: list[Sample]) -> Batch:
    """Lists instead of a padded tensor: the model pads after normalising."""
    images, targets = zip(*samples, strict=True)
    return list(images), list(targets)


def eval_images(index: CocoIndex) -> Iterator[tuple[ImageRecord, Bytes]]:
    """Each image of the index in order, as H×W×3 uint8 RGB at its own size, read ahead."""

    def read(record: ImageRecord) -> tuple[ImageRecord, Bytes]:
        return record, as_array(read_record(record))

    return ahead(read, index.images, workers=2, most=4)


@dataclass
class _Seeded(Dataset[Sample]):
    """Gives each sample its own random numbers, by its position in the whole run."""

    dataset: CocoDataset
    seed: int

    def __getitem__(self, position: _Position) -> Sample:
        number, index = position
        state = np.random.SeedSequence([self.seed, number, 1]).generate_state(1, np.uint64)
        outside = torch.get_rng_state()  # the training loop's generator is left as it was
        try:
            torch.default_generator.manual_seed(int(state[0] >> np.uint64(1)))
            return self.dataset[index]
        finally:
            torch.set_rng_state(outside)


@dataclass(frozen=True)
class _EndlessBatches(Sampler[list[_Position]]):
    index: CocoIndex
    batch_size: int
    seed: int
    start: int  # batches that are left out
    share: slice  # of each batch
    aspect_grouping: bool

    def __iter__(self) -> Iterator[list[_Position]]:
        """Images are collected in two lists if shapes are kept apart; a full one is a batch."""
        first = 0 if self.aspect_grouping else self.start * self.batch_size
        left_out = self.start if self.aspect_grouping else 0  # replayed: a few µs a batch
        baskets: tuple[list[_Position], list[_Position]] = ([], [])
        for position in self._positions(first):
            image = self.index.images[position[1]]
            basket = baskets[self.aspect_grouping and image.width > image.height]
            basket.append(position)
            if len(basket) == self.batch_size:
                if left_out:
                    left_out -= 1
                else:
                    yield basket[self.share]
                basket.clear()

    def _positions(self, first: int) -> Iterator[_Position]:
        images = len(self.index)
        epoch, skip = divmod(first, images)
        while True:
            order = np.random.default_rng([self.seed, epoch, 0]).permutation(images)
            for place in range(skip, images):
                yield epoch * images + place, int(order[place])
            epoch, skip = epoch + 1, 0
