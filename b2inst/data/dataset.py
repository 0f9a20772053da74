"""Images with their targets, ready for training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from b2inst.data.coco import CocoIndex
from b2inst.data.errors import DataError
from b2inst.data.images import read_image, size_problem
from b2inst.data.records import Annotation, ImageRecord
from b2inst.structures import Targets


@dataclass(frozen=True)
class _Decoded:
    """A sample before augmentation, at the size of its file."""

    image: Image.Image
    boxes: NDArray[np.float32]  # N×4
    labels: NDArray[np.int64]  # N
    masks: NDArray[np.uint8]  # N×H×W
    semantic: NDArray[np.uint8]  # H×W
    crowds: NDArray[np.float32]  # M×4


class CocoDataset(Dataset[tuple[Tensor, Targets]]):
    """The images of an index as ``(3×H×W uint8 RGB, Targets)``.

    Boxes come from the annotations, not from the masks. Crowds are not instances but are drawn
    into ``semantic``, in the file's order, later ones on top. An instance whose box or mask the
    transforms leave empty is dropped.

    Args:
        transforms: called with a PIL image and a dict of ``boxes`` and ``crowds``
            (tv_tensors.BoundingBoxes), ``masks`` and ``semantic`` (tv_tensors.Mask); randomness
            from torch's generator.
        cache: keep decoded samples in memory, for sets that fit (a 96×96 scene: about 70 kB).

    Raises:
        DataError: from ``__getitem__``, the image cannot be read or has another size than the
            annotations say.
    """

    def __init__(
        self, index: CocoIndex, transforms: Callable[..., Any], *, cache: bool = False
    ) -> None:
        self.index = index
        self.transforms = transforms
        self._cache: dict[int, _Decoded] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> tuple[Tensor, Targets]:
        record = self.index.images[i]
        sample = self._decoded(i)
        # Tensors over a cached sample's memory would let the caller change the cache.
        tensor = torch.from_numpy if self._cache is None else torch.tensor

        def boxes_of(values: NDArray[np.float32]) -> tv_tensors.BoundingBoxes:
            return tv_tensors.BoundingBoxes(
                tensor(values),
                format=tv_tensors.BoundingBoxFormat.XYXY,
                canvas_size=(record.height, record.width),
            )

        image, shapes = self.transforms(
            sample.image,
            {
                "boxes": boxes_of(sample.boxes),
                "crowds": boxes_of(sample.crowds),
                "masks": tv_tensors.Mask(tensor(sample.masks)),
                "semantic": tv_tensors.Mask(tensor(sample.semantic)),
            },
        )
        boxes = shapes["boxes"].as_subclass(Tensor)
        masks = shapes["masks"].as_subclass(Tensor)
        keep = (boxes[:, 2:] > boxes[:, :2]).all(dim=1) & masks.flatten(1).any(dim=1).bool()
        labels = tensor(sample.labels)
        if not keep.all():
            boxes, masks, labels = boxes[keep], masks[keep], labels[keep]
        targets = Targets(
            image_id=record.id,
            boxes=boxes,
            labels=labels,
            masks=masks,
            semantic=shapes["semantic"].as_subclass(Tensor),
            crowds=shapes["crowds"].as_subclass(Tensor),
        )
        return F.pil_to_tensor(image), targets

    def _decoded(self, i: int) -> _Decoded:
        if self._cache is None:
            return self._decode(self.index.images[i])
        if i not in self._cache:
            self._cache[i] = self._decode(self.index.images[i])
        return self._cache[i]

    def _decode(self, record: ImageRecord) -> _Decoded:
        image = open_record(record)
        annotations = self.index.annotations[record.id]
        instances = [a for a in annotations if not a.crowd]
        masks = np.zeros((len(instances), record.height, record.width), dtype=np.uint8)
        semantic = np.zeros((record.height, record.width), dtype=np.uint8)
        n = 0
        for annotation in annotations:
            mask = annotation.mask(record.height, record.width)
            semantic[mask.view(bool)] = annotation.label + 1
            if not annotation.crowd:
                masks[n] = mask
                n += 1
        return _Decoded(
            image=image,
            boxes=_boxes(instances),
            labels=np.array([a.label for a in instances], dtype=np.int64),
            masks=masks,
            semantic=semantic,
            crowds=_boxes([a for a in annotations if a.crowd]),
        )


def _boxes(annotations: Sequence[Annotation]) -> NDArray[np.float32]:
    return np.array([a.box for a in annotations], dtype=np.float32).reshape(-1, 4)


def open_record(record: ImageRecord) -> Image.Image:
    """The image of a record as RGB.

    Raises:
        DataError: it cannot be read or is of another size than the annotations say.
    """
    image = read_image(record.path)
    if problem := size_problem(record, image.height, image.width):
        raise DataError(problem)
    return image
