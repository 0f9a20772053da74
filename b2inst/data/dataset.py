"""Images with their targets, ready for training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.ops import masks_to_boxes
from torchvision.transforms.v2 import functional as F

from b2inst.data.coco import CocoIndex
from b2inst.data.images import ImageRecord, read_record
from b2inst.data.segmentation import Annotation
from b2inst.structures import Targets

#: An image and the mask of each of its annotations, at the size of the file.
_Decoded = tuple[Image.Image, Iterable[NDArray[np.uint8]]]


class CocoDataset(Dataset[tuple[Tensor, Targets]]):
    """The images of an index as ``(3×H×W uint8 RGB, Targets)``.

    Boxes come from the annotations. Crowds are not instances but are drawn into ``semantic``, in
    the file's order, later ones on top. An instance whose box or mask the transforms leave empty
    is dropped. Masks are decoded one after another at the size of the file, and resampled by a map
    of the file's pixels that is transformed once.

    Args:
        transforms: Called with a PIL image and a dict of ``boxes`` and ``crowds``
            (tv_tensors.BoundingBoxes) and ``pixels`` (tv_tensors.Mask, H×W int32; 0 means no
            pixel of the file); randomness from torch's generator.
        tight_boxes: Whether boxes are those of the masks, for crops that cut instances.
        cache: Whether to keep decoded samples in memory (a 96×96 scene: about 60 kB).

    Raises:
        DataError: From ``__getitem__``, the image cannot be read or has another size than the
            annotations say.
    """

    def __init__(
        self,
        index: CocoIndex,
        transforms: Callable[..., Any],
        *,
        tight_boxes: bool = False,
        cache: bool = False,
    ) -> None:
        self.index = index
        self.transforms = transforms
        self.tight_boxes = tight_boxes
        self._cache: dict[int, _Decoded] | None = {} if cache else None

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> tuple[Tensor, Targets]:
        record = self.index.images[i]
        annotations = self.index.annotations[record.id]
        instances = [a for a in annotations if not a.crowd]
        image, masks = self._decoded(i)
        # From 1 on, down the columns as COCO's masks are stored.
        numbers = torch.arange(1, 1 + record.height * record.width, dtype=torch.int32)
        given = {
            "boxes": _boxes(instances, record),
            "crowds": _boxes([a for a in annotations if a.crowd], record),
            "pixels": tv_tensors.Mask(numbers.reshape(record.width, record.height).T),
        }
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
        for annotation, mask in zip(annotations, masks, strict=True):
            source[1:] = mask.ravel(order="F")
            bitmap = np.take(source, pixels, out=bitmaps[len(kept)], mode="clip")
            semantic[bitmap.view(bool)] = annotation.label + 1
            if not annotation.crowd and visible[row := next(rows)] and bitmap.any():
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
        if self._cache is not None and i in self._cache:
            return self._cache[i]
        record = self.index.images[i]
        image, masks = read_record(record), (a.mask() for a in self.index.annotations[record.id])
        if self._cache is None:
            return image, masks
        return self._cache.setdefault(i, (image, list(masks)))


def _boxes(annotations: Sequence[Annotation], record: ImageRecord) -> tv_tensors.BoundingBoxes:
    boxes = np.array([a.box for a in annotations], dtype=np.float32).reshape(-1, 4)
    return tv_tensors.BoundingBoxes(
        torch.from_numpy(boxes),
        format=tv_tensors.BoundingBoxFormat.XYXY,
        canvas_size=(record.height, record.width),
    )
