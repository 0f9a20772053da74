"""The stored images and objects of BlendMask's fixtures, and whether they agree with each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torchvision.transforms.v2.functional as TF
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from b2inst.data.segmentation import to_rle
from b2inst.structures import Targets
from reference.comparison import Check, Comparison, compare, described, exact, within
from reference.errors import VerificationError
from reference.fixtures import Case


@dataclass(frozen=True)
class Sample:
    """An image with its objects."""

    original: NDArray[np.uint8]  #: H×W×3 RGB
    resized: NDArray[np.uint8]  #: h×w×3 RGB, at the network's size
    polygons: list[list[NDArray[np.float64]]]  #: of each object, points×2, in those pixels
    targets: Targets  #: in pixels of ``resized``

    @property
    def original_size(self) -> tuple[int, int]:
        return self.original.shape[0], self.original.shape[1]

    @property
    def resized_size(self) -> tuple[int, int]:
        return self.resized.shape[0], self.resized.shape[1]


def read_samples(case: Case) -> list[Sample]:
    """The images of a case.

    Raises:
        VerificationError: something is missing or of a wrong form.
    """
    samples = []
    for i, facts in enumerate(case.images):
        try:
            samples.append(_sample(i, case.inputs, facts))
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise VerificationError(
                f"{case.inputs_source}: image {i} and its objects cannot be read ({error!r}); "
                "fetch the reference fixtures again"
            ) from error
    return samples


def compare_inputs(case: Case, samples: list[Sample]) -> list[Comparison]:
    """Whether images, polygons, bitmaps, boxes, classes and maps are of the same objects."""
    checks: dict[str, Check] = {}
    for i, sample in enumerate(samples):
        checks |= _checks(i, sample)
    return compare(case.inputs | {"images": case.images}, checks)


def draw(polygons: list[NDArray[np.float64]], height: int, width: int) -> NDArray[np.uint8]:
    """An object's polygons (points×2) as H×W, 0 or 1."""
    return coco_mask.decode(to_rle([points.ravel() for points in polygons], height, width))


def _sample(i: int, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> Sample:
    resized = _rgb(arrays[f"resized_bgr_{i}"])
    height, width = resized.shape[:2]
    labels = arrays[f"gt_classes_{i}"]
    polygons = [
        [np.reshape(np.array(flat, np.float64), (-1, 2)) for flat in own]
        for own in facts["polygons_in_resized_xy"]
    ]
    if len(polygons) != len(labels):
        raise ValueError(f"{len(polygons)} objects have polygons, {len(labels)} have a class")
    bits = np.unpackbits(arrays[f"gt_masks_packed_{i}"], axis=1)[:, : height * width]
    return Sample(
        original=_rgb(arrays[f"orig_bgr_{i}"]),
        resized=resized,
        polygons=polygons,
        targets=Targets(
            image_id=i,
            boxes=torch.from_numpy(arrays[f"gt_boxes_{i}"].reshape(len(labels), 4)).float(),
            labels=torch.from_numpy(labels).long(),
            masks=torch.from_numpy(bits.reshape(len(labels), height, width)),
            semantic=torch.from_numpy(arrays[f"basis_sem_{i}"].reshape(height, width)),
        ),
    )


def _rgb(bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if bgr.dtype != np.uint8 or bgr.ndim != 3 or bgr.shape[2] != 3:
        raise ValueError(f"an image is {bgr.shape} {bgr.dtype}, not H×W×3 uint8")
    return np.ascontiguousarray(bgr[:, :, ::-1])


def _checks(i: int, sample: Sample) -> dict[str, Check]:
    """Pixels follow from the originals, everything about the objects from their polygons."""
    height, width = sample.resized_size
    drawn = np.array([draw(own, height, width) for own in sample.polygons], np.uint8)
    drawn = drawn.reshape(-1, height, width)
    points = [np.concatenate(own) for own in sample.polygons]
    bounds = np.array([[*p.min(0), *p.max(0)] for p in points]).reshape(-1, 4)
    packed = np.packbits(drawn.reshape(-1, height * width), axis=1)
    stored = np.packbits(sample.targets.masks.flatten(1).numpy(), axis=1)
    pixels = _resized(sample.original, (height, width))[:, :, ::-1]
    labels = sample.targets.labels.numpy()
    objects = _object_map(sample)

    def polygons(name: str, _: Any) -> Comparison:
        return exact(packed)(name, stored)

    def original(name: str, _: Any) -> Comparison:
        return exact(pixels)(name, sample.resized[:, :, ::-1])

    return {
        f"orig_bgr_{i}": original,
        f"resized_bgr_{i}": exact(pixels),
        f"gt_boxes_{i}": within(bounds, 1e-2, "px"),
        f"gt_classes_{i}": exact(_classes(objects, sample)),
        f"gt_masks_packed_{i}": exact(packed),
        f"gt_masks_shape_{i}": exact(drawn.shape),
        f"basis_sem_{i}": exact(np.append(0, labels + 1)[objects]),
        f"images[{i}].image_id": described,
        f"images[{i}].orig_hw": exact(sample.original_size),
        f"images[{i}].resized_hw": exact(sample.resized_size),
        f"images[{i}].n_gt": exact(len(labels)),
        f"images[{i}].polygons_in_resized_xy": polygons,
    }


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    resized = TF.resize(Image.fromarray(image), list(size), TF.InterpolationMode.BILINEAR)
    return np.asarray(resized)


def _object_map(sample: Sample) -> NDArray[np.int32]:
    """Number of the object at each pixel, from 1; 0 is background.

    Drawn at the original size, later objects on top, then resized to the nearest pixel.
    """
    height, width = sample.original_size
    grow = np.array([width, height]) / np.array(sample.resized_size[::-1])
    canvas = np.zeros((height, width), np.int32)
    for number, polygons in enumerate(sample.polygons, start=1):
        # Rounded, or the noise of scaling forth and back moves points across pixels.
        original = [(points * grow).round(6) for points in polygons]
        canvas[draw(original, height, width).astype(bool)] = number
    size = sample.resized_size[::-1]
    return np.asarray(Image.fromarray(canvas).resize(size, Image.Resampling.NEAREST))


def _classes(objects: NDArray[np.int32], sample: Sample) -> NDArray[np.int64]:
    """The class each object has in the class map; its own label where others cover it wholly."""
    labels = sample.targets.labels.numpy().copy()
    semantic = sample.targets.semantic.numpy()
    for k in range(len(labels)):
        seen = semantic[objects == k + 1]
        if len(seen):
            labels[k] = np.bincount(seen).argmax() - 1
    return labels
