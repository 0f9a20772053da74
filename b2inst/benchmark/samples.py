"""Images to time models on, with the boxes of their objects."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import masks_to_boxes

from b2inst.data import CocoIndex, make_scene, read_image
from b2inst.data.images import as_array

#: (height, width) of COCO's most common images, with their frequencies among twelve.
_COCO_SIZES = ((480, 640),) * 5 + ((427, 640),) * 3 + ((640, 480),) * 2 + ((640, 427), (375, 500))


@dataclass(frozen=True)
class Sample:
    """An image and the boxes of its objects."""

    image: NDArray[np.uint8]  #: H×W×3 RGB
    boxes: NDArray[np.float32]  #: N×4, x1 y1 x2 y2 in pixels


def index_samples(index: CocoIndex, count: int) -> list[Sample]:
    """Load evenly spaced images of a split; some are repeated if it has fewer than ``count``."""
    samples = []
    for i in np.linspace(0, len(index), count, endpoint=False).astype(int):
        record = index.images[i]
        boxes = [a.box for a in index.annotations[record.id] if not a.crowd]
        array = np.array(boxes, np.float32).reshape(-1, 4)
        samples.append(Sample(as_array(read_image(record.path)), array))
    return samples


def composed_samples(count: int, *, seed: int = 0) -> list[Sample]:
    """Compose images of COCO's most common sizes, with objects of its sizes, from scenes."""
    rng = np.random.default_rng(seed)
    samples = []
    for i in range(count):
        height, width = _COCO_SIZES[int(rng.integers(len(_COCO_SIZES)))]
        side = min(height, width) // int(rng.integers(1, 4))
        image = np.zeros((height, width, 3), np.uint8)
        boxes = []
        for number, (row, column) in enumerate(np.ndindex(-(-height // side), -(-width // side))):
            scene = make_scene((seed, i, number), side)
            y, x = row * side, column * side
            image[y : y + side, x : x + side] = scene.image[: height - y, : width - x]
            masks = scene.masks[:, : height - y, : width - x]
            visible = torch.from_numpy(masks[masks.any((1, 2))])
            boxes.append(masks_to_boxes(visible).numpy() + np.array([x, y, x + 1, y + 1]))
        samples.append(Sample(image, np.concatenate(boxes).astype(np.float32)))
    return samples
