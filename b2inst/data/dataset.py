"""Images with their targets, and batches of them for training."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms.v2 import functional as F

from b2inst.data.coco import CocoIndex
from b2inst.data.images import Bytes, ImageRecord, as_array, read_record
from b2inst.data.segmentation import Annotation
from b2inst.data.wording import DataError
from b2inst.ops.ahead import ahead
from b2inst.structures import Targets

Sample = tuple[Tensor, Targets]
Batch = tuple[list[Tensor], list[Targets]]
_Position = tuple[int, int]  # position in the endless sequence of samples, index of the image

#: An image and, if they are kept in memory, the masks of its annotations.
_Decoded = tuple[Image.Image, Iterable[Bytes | None] | None]


@dataclass(eq=False)
class CocoDataset(Dataset[Sample]):
    """The images of an index as ``(3×H×W uint8 RGB, Targets)``.

    Boxes come from the annotations. Crowds are no instances but are drawn into ``semantic``, later
    annotations on top. An instance whose box or mask the transforms leave empty is dropped. Masks
    are decoded one after another, and resampled by a map of pixels that is transformed once.

    Args:
        index: Images and annotations.
        transforms: Called with a PIL image and a dict of ``boxes`` and ``crowds``
            (tv_tensors.BoundingBoxes) and ``pixels`` (tv_tensors.Mask, H×W int32; 0 means no
            pixel of the file); randomness from torch's generator.
        tight_boxes: Whether boxes are those of the masks, for crops that cut instances.
        cache: Whether to keep decoded images and masks in memory.

    Raises:
        DataError: From ``__getitem__``, the image cannot be read or has another size than the
            annotations say.
    """

    index: CocoIndex
    transforms: Callable[..., Any]
    tight_boxes: bool = False
    cache: bool = False
    _kept: dict[int, _Decoded] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> Sample:
        record = self.index.images[i]
        annotations = self.index.annotations[record.id]
        instances = [a for a in annotations if not a.crowd]
        # From 1 on, down the columns as COCO's masks are stored.
        numbers = torch.arange(1, 1 + record.height * record.width, dtype=torch.int32)
        given = {
            "boxes": _boxes(instances, record),
            "crowds": _boxes([a for a in annotations if a.crowd], record),
            "pixels": tv_tensors.Mask(numbers.reshape(record.width, record.height).T),
        }
        image, masks = self._decoded(i)
        image, shapes = self.transforms(image, given)
        boxes = shapes["boxes"].as_subclass(Tensor)
        visible = (boxes[:, 2:] > boxes[:, :2]).all(dim=1).tolist()
        pixels = shapes["pixels"].as_subclass(Tensor).numpy().astype(np.intp)

        source = np.zeros(1 + record.height * record.width, np.uint8)
        semantic = np.zeros(pixels.shape, np.int32)
        # One row more: what is empty, or a crowd, is overwritten by the next one.
        bitmaps = np.empty((1 + sum(visible), *pixels.shape), np.uint8)
        kept: list[int] = []
        rows = iter(range(len(instances)))
        if masks is None:
            masks = _masks(annotations, pixels)
        for annotation, mask in zip(annotations, masks, strict=True):
            row = None if annotation.crowd else next(rows)
            if mask is None:
                continue
            source[1:] = mask.ravel(order="F")
            bitmap = np.take(source, pixels, out=bitmaps[len(kept)], mode="clip")
            semantic[bitmap.view(bool)] = annotation.label + 1
            if row is not None and visible[row] and bitmap.any():
                kept.append(row)
        bitmaps.resize((len(kept), *pixels.shape), refcheck=False)  # in place, unlike a slice

        visible_masks, boxes = torch.from_numpy(bitmaps), boxes[kept]
        if self.tight_boxes and kept:
            boxes = masks_to_boxes(visible_masks) + torch.tensor([0.0, 0.0, 1.0, 1.0])
        targets = Targets(
            image_id=record.id,
            boxes=boxes,
            labels=torch.tensor([instances[row].label for row in kept], dtype=torch.int64),
            masks=visible_masks,
            semantic=torch.from_numpy(semantic),
            crowds=shapes["crowds"].as_subclass(Tensor),
        )
        return F.pil_to_tensor(image), targets

    def _decoded(self, i: int) -> _Decoded:
        if i not in self._kept:
            record = self.index.images[i]
            if not self.cache:
                return read_record(record), None
            masks = [annotation.mask() for annotation in self.index.annotations[record.id]]
            self._kept[i] = read_record(record), masks
        return self._kept[i]


def _masks(annotations: Sequence[Annotation], pixels: np.ndarray) -> Iterator[Bytes | None]:
    """Decode masks one after another; None for those that lie outside of the used pixels."""
    # Decoding takes longest in large images, of which a crop shows little.
    used = pixels[pixels > 0] - 1
    if not annotations or not used.size:
        yield from [None] * len(annotations)
        return
    columns, rows = np.divmod(used, annotations[0].rle["size"][0])
    left, right, top, bottom = columns.min(), columns.max(), rows.min(), rows.max()
    for annotation in annotations:
        x, y, width, height = coco_mask.toBbox(annotation.rle)
        outside = x + width <= left or x > right or y + height <= top or y > bottom
        yield None if outside else annotation.mask()


def _boxes(annotations: Sequence[Annotation], record: ImageRecord) -> tv_tensors.BoundingBoxes:
    boxes = np.array([a.box for a in annotations], dtype=np.float32).reshape(-1, 4)
    return tv_tensors.BoundingBoxes(
        torch.from_numpy(boxes),
        format=tv_tensors.BoundingBoxFormat.XYXY,
        canvas_size=(record.height, record.width),
    )


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

    The samples of iteration k depend on the seed and k alone: not on interruptions, nor on the
    number of workers.

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
    batches = _batches(dataset.index, batch_size, seed, aspect_grouping)
    return DataLoader[Any](
        _Seeded(dataset, seed),
        # Those left out are drawn again: a few µs a batch.
        batch_sampler=(batch[rank::world_size] for batch in islice(batches, start_iteration, None)),
        num_workers=num_workers,
        collate_fn=collate,
        persistent_workers=num_workers > 0,
        worker_init_fn=_leave_signals,
        generator=torch.Generator().manual_seed(seed),  # else it draws from the global one
    )


def _leave_signals(worker: int) -> None:
    """Ctrl-C and SIGTERM reach workers, too, but the training decides when to stop."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def collate(samples: list[Sample]) -> Batch:
    """Lists instead of a padded tensor: the model pads after normalising."""
    images, targets = zip(*samples, strict=True)
    return list(images), list(targets)


def eval_images(index: CocoIndex) -> Iterator[tuple[ImageRecord, Bytes]]:
    """Each image of the index in order, as H×W×3 uint8 RGB at its own size, read ahead."""
    return ahead(lambda r: (r, as_array(read_record(r))), index.images, workers=2, most=4)


@dataclass
class _Seeded(Dataset[Sample]):
    """Gives each sample its own random numbers, by its position in the whole run."""

    dataset: CocoDataset
    seed: int

    def __getitem__(self, position: _Position) -> Sample:
        number, index = position
        state = np.random.SeedSequence([self.seed, number, 1]).generate_state(1, np.uint64)
        with torch.random.fork_rng(devices=[]):  # leaves the training loop's generator as it was
            torch.default_generator.manual_seed(int(state[0] >> np.uint64(1)))
            return self.dataset[index]


def _batches(
    index: CocoIndex, batch_size: int, seed: int, aspect_grouping: bool
) -> Iterator[list[_Position]]:
    """Images are collected in two lists if shapes are kept apart; a full one is a batch."""
    baskets: tuple[list[_Position], list[_Position]] = ([], [])
    for epoch in count():
        order = np.random.default_rng([seed, epoch, 0]).permutation(len(index))
        for position in enumerate(order.tolist(), epoch * len(index)):
            image = index.images[position[1]]
            basket = baskets[aspect_grouping and image.width > image.height]
            basket.append(position)
            if len(basket) == batch_size:
                yield basket.copy()
                basket.clear()
