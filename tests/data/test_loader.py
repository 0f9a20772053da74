"""What is trained on at iteration k depends on the seed and k alone."""

from __future__ import annotations

import os
import signal
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from b2inst.data import (
    CocoDataset,
    CocoIndex,
    DataError,
    eval_images,
    find_split,
    train_loader,
    train_transforms,
    write_scenes,
)
from b2inst.data.dataset import _batches

IMAGES = 7


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    root: Path = tmp_path_factory.mktemp("scenes")
    write_scenes(root, split="train", images=IMAGES, size=32, seed=0)
    augment = train_transforms(
        shorter=[24, 32], longer_max=40, flip=0.5, vertical_flip=0.5, transpose=0.5
    )
    return CocoDataset(CocoIndex.load(*find_split(root, "train")), augment)


def seen(dataset: CocoDataset, batches: int, **options: Any) -> list[list[tuple[Any, ...]]]:
    """Ids and content of the first batches, comparable."""
    return [
        [
            (
                t.image_id,
                image.shape,
                image.numpy().tobytes(),
                t.boxes.tolist(),
                t.masks.sum().item(),
            )
            for image, t in zip(images, targets, strict=True)
        ]
        for images, targets in islice(train_loader(dataset, **options), batches)
    ]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    batch_size=st.integers(1, 9),
    start=st.integers(0, 12),
    grouping=st.booleans(),
)
def test_resuming_goes_on_exactly(
    dataset, seed: int, batch_size: int, start: int, grouping
) -> None:
    options = {"seed": seed, "batch_size": batch_size, "aspect_grouping": grouping}
    whole = seen(dataset, start + 3, **options)
    torch.manual_seed(start)  # whatever went on outside
    assert seen(dataset, 3, start_iteration=start, **options) == whole[start:]


def test_workers_change_nothing(dataset) -> None:
    options = {"seed": 3, "batch_size": 4, "start_iteration": 2}
    assert seen(dataset, 4, num_workers=2, **options) == seen(dataset, 4, **options)


def test_signals_stop_the_training_not_its_workers(dataset: CocoDataset) -> None:
    batches = iter(train_loader(dataset, batch_size=2, seed=0, num_workers=1))
    first = next(batches)
    (worker,) = batches._workers  # type: ignore[attr-defined]
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(worker.pid, number)
    assert len([next(batches) for _ in range(5)]) == 5  # more than were loaded ahead
    assert worker.is_alive()
    assert len(first[0]) == 2


def test_processes_share_the_batch(dataset) -> None:
    whole = seen(dataset, 5, seed=1, batch_size=6)
    parts = [seen(dataset, 5, seed=1, batch_size=6, rank=r, world_size=3) for r in range(3)]
    for k, batch in enumerate(whole):
        assert sorted(batch) == sorted(sample for part in parts for sample in part[k])
        assert all(len(part[k]) == 2 for part in parts)


def test_every_epoch_has_every_image_once_in_another_order(dataset) -> None:
    ids = [s[0] for batch in seen(dataset, 3 * IMAGES, seed=0, batch_size=1) for s in batch]
    epochs = [ids[i : i + IMAGES] for i in range(0, len(ids), IMAGES)]
    assert all(sorted(epoch) == list(range(1, IMAGES + 1)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert ids != [s[0] for batch in seen(dataset, 21, seed=1, batch_size=1) for s in batch]


def test_the_same_image_is_augmented_anew(dataset) -> None:
    looks = {s[2] for b in seen(dataset, 10 * IMAGES, seed=0, batch_size=1) for s in b if s[0] == 1}
    assert len(looks) > 3


def test_the_training_loops_generator_is_left_alone(dataset) -> None:
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    batches = iter(train_loader(dataset, batch_size=2, seed=0))
    next(batches)
    next(batches)
    assert torch.equal(torch.rand(3), expected)


def test_aspect_grouping_does_not_mix(content, write) -> None:
    index = CocoIndex.load(*write(content))
    tall = {7}
    images = [
        type(image)(image.id, image.path, 40 if image.id in tall else 20, 30)
        for image in index.images
    ]
    mixed = type(index)(**vars(index) | {"images": images})
    batches = list(islice(_batches(mixed, batch_size=4, seed=0, aspect_grouping=True), 30))
    wide = [[images[i].id not in tall for _, i in batch] for batch in batches]
    assert all(len(set(batch)) == 1 for batch in wide)
    assert {batch[0] for batch in wide} == {True, False}
    positions = sorted(position for batch in batches for position, _ in batch)
    assert len(set(positions)) == 120
    assert positions[-1] < 120 + 2 * 4  # nothing waits for long


def test_wrong_requests(dataset) -> None:
    with pytest.raises(ValueError, match="choose a multiple of 3"):
        train_loader(dataset, batch_size=4, seed=0, world_size=3)
    empty = CocoDataset(dataset.index.subset([]), dataset.transforms)
    with pytest.raises(DataError, match="no images to train on"):
        train_loader(empty, batch_size=4, seed=0)


def test_eval_images_come_whole_and_in_order(dataset) -> None:
    pairs = list(eval_images(dataset.index))
    assert [record.id for record, _ in pairs] == [image.id for image in dataset.index.images]
    assert all(image.shape == (32, 32, 3) and image.dtype == np.uint8 for _, image in pairs)
