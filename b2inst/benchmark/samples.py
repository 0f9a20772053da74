"""Images of realistic sizes, with the boxes of their objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from b2inst.data import CocoIndex, find_split, make_scene, read_image, verify_images
from b2inst.data.images import as_array

#: (height, width) of COCO's most common images, with their frequencies among twelve.
_COCO_SIZES = ((480, 640),) * 5 + ((427, 640),) * 3 + ((640, 480),) * 2 + ((640, 427), (375, 500))


class BenchmarkError(ValueError):
    """A benchmark that cannot be run; the message is one line with a remedy."""


@dataclass(frozen=True)
class Sample:
    """An image and the boxes of its objects."""

    image: NDArray[np.uint8]  #: H×W×3 RGB
    boxes: NDArray[np.float32]  #: N×4, x1 y1 x2 y2 in pixels


def coco_samples(
    folder: Path | str, split: str, count: int, *, skip_bad: bool = False
) -> list[Sample]:
    """Load evenly spaced images of a COCO-format split, repeated if there are too few.

    Args:
        folder: COCO-format folder.
        split: Name of the split.
        count: Number of samples.
        skip_bad: Whether to skip invalid annotations and images that cannot be read.

    Raises:
        DataError: There is no such split, or an image cannot be read.
        BenchmarkError: No image has an object.
    """
    index = CocoIndex.load(*find_split(folder, split), skip_bad=skip_bad).annotated()
    if skip_bad:
        index = verify_images(index, skip_bad=True)
    if not len(index):
        raise BenchmarkError(f"{folder}: no image of {split} has an object; give other data")
    chosen = np.linspace(0, len(index), count, endpoint=False).astype(int)
    samples = {}
    for i in np.unique(chosen):
        record = index.images[i]
        boxes = [a.box for a in index.annotations[record.id] if not a.crowd]
        samples[i] = Sample(as_array(read_image(record.path)), np.array(boxes, np.float32))
    return [samples[i] for i in chosen]


def composed_samples(count: int, *, seed: int = 0) -> list[Sample]:
    """Compose images of COCO's most common sizes from procedural scenes.

    Scenes of three sizes give objects of about COCO's sizes: a fifth to two thirds of the shorter
    side.

    Args:
        count: Number of samples.
        seed: Random seed.
    """
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
            window = image[y : y + side, x : x + side]
            window[:] = scene.image[: window.shape[0], : window.shape[1]]
            for mask in scene.masks[:, : window.shape[0], : window.shape[1]]:
                if mask.any():
                    rows, columns = np.nonzero(mask)
                    start, stop = (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)
                    boxes.append((x + start[0], y + start[1], x + stop[0], y + stop[1]))
        samples.append(Sample(image, np.array(boxes, np.float32)))
    return samples
