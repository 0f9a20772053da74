"""Images to time models on: of real sizes, with objects whose boxes are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from b2inst.benchmark.errors import BenchmarkError
from b2inst.data import CocoIndex, find_split, make_scene, read_image, verify_images
from b2inst.data.images import as_array

#: (height, width) of COCO's commonest images, each as often as among twelve of them.
_COCO_SIZES = ((480, 640),) * 5 + ((427, 640),) * 3 + ((640, 480),) * 2 + ((640, 427), (375, 500))


@dataclass(frozen=True)
class Sample:
    """One image and where objects are in it."""

    image: NDArray[np.uint8]  #: H×W×3 RGB
    boxes: NDArray[np.float32]  #: N×4, x1 y1 x2 y2 in its pixels


def coco_samples(
    folder: Path | str, split: str, count: int, *, skip_bad: bool = False
) -> list[Sample]:
    """``count`` images of a COCO-format split, evenly spaced; fewer images come again.

    Args:
        skip_bad: leave out annotations that are wrong, and images that cannot be read.

    Raises:
        DataError: there is no such split, or an image cannot be read.
        BenchmarkError: no image has an object.
    """
    index = CocoIndex.load(*find_split(folder, split), skip_bad=skip_bad).annotated()
    if skip_bad:
        index = verify_images(index, skip_bad=True)
    if not len(index):
        raise BenchmarkError(f"{folder}: no image of {split} has an object; give other data")
    chosen = np.linspace(0, len(index), count, endpoint=False).astype(int)
    samples = {}
    for i in sorted(set(chosen.tolist())):
        record = index.images[i]
        boxes = [a.box for a in index.annotations[record.id] if not a.crowd]
        samples[i] = Sample(as_array(read_image(record.path)), np.array(boxes, np.float32))
    return [samples[i] for i in chosen.tolist()]


def composed_samples(count: int, *, seed: int = 0) -> list[Sample]:
    """``count`` images of COCO's commonest sizes, tiled with procedural scenes.

    Scenes of three sizes make objects of about COCO's: a fifth to two thirds of the shorter side.
    """
    rng = np.random.default_rng(seed)
    samples = []
    for i in range(count):
        height, width = _COCO_SIZES[int(rng.integers(len(_COCO_SIZES)))]
        side = min(height, width) // int(rng.integers(1, 4))
        image = np.zeros((height, width, 3), np.uint8)
        boxes = []
        for number, (top, left) in enumerate(np.ndindex(-(-height // side), -(-width // side))):
            scene = make_scene((seed, i, number), side)
            y, x = top * side, left * side
            window = image[y : y + side, x : x + side]
            window[:] = scene.image[: window.shape[0], : window.shape[1]]
            for mask in scene.masks[:, : window.shape[0], : window.shape[1]]:
                rows, columns = mask.any(1).nonzero()[0], mask.any(0).nonzero()[0]
                if len(rows):
                    boxes.append(
                        (x + columns[0], y + rows[0], x + columns[-1] + 1, y + rows[-1] + 1)
                    )
        samples.append(Sample(image, np.array(boxes, np.float32)))
    return samples
