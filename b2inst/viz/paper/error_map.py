"""Where masks are wrong: in the band around the true boundary, or away from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from pycocotools import mask as coco_mask

from b2inst.data import CocoIndex, ImageRecord
from b2inst.evaluation import Prediction
from b2inst.evaluation.boundary_overlap import boundary_width
from b2inst.viz.choose import Pair, pairs
from b2inst.viz.draw import Colour, Picture, draw_masks, enlarge, to_grey

Bitmap = npt.NDArray[np.bool_]  #: H×W

#: The kinds of wrong pixels, and how they are drawn (Okabe and Ito's colours).
KINDS: dict[str, Colour] = {
    "missing, in the band": (0, 114, 178),
    "too much, in the band": (230, 159, 0),
    "missing, interior": (86, 180, 233),
    "too much, beyond": (213, 94, 0),
}

#: Objects that a model did not find.
NOT_FOUND: Colour = (120, 120, 120)


@dataclass(frozen=True)
class ErrorCount:
    """Wrong pixels of the objects that all compared models find."""

    pixels: dict[str, int]  #: by the names in ``KINDS``
    area: int  #: of these objects, in pixels
    objects: int
    missed: int  #: objects that this model does not find

    def percent(self, kind: str) -> float:
        """Of the objects' area."""
        return 100 * self.pixels[kind] / self.area if self.area else math.nan


def error_maps(predicted: Bitmap, truth: Bitmap, *, band: int) -> dict[str, Bitmap]:
    """Each kind of wrong pixels of a mask.

    The band is all pixels within ``band`` of the other side of the true boundary (the larger of
    the two coordinates' distances, as a square kernel has it). The frame of the image is no
    boundary: nothing ends there.

    Returns:
        By the names in ``KINDS``; no two share a pixel, and together they are all that is wrong.
    """
    kernel = np.ones((2 * band + 1, 2 * band + 1), np.uint8)
    bits = truth.astype(np.uint8)
    inner = truth & (cv2.erode(bits, kernel) == 0)
    outer = ~truth & (cv2.dilate(bits, kernel) > 0)
    missing, surplus = truth & ~predicted, predicted & ~truth
    found = (missing & inner, surplus & outer, missing & ~inner, surplus & ~outer)
    return dict(zip(KINDS, found, strict=True))


def count_errors(
    index: CocoIndex,
    images: Sequence[ImageRecord],
    models: Mapping[str, Mapping[int, Sequence[Prediction]]],
) -> dict[str, ErrorCount]:
    """Count the wrong pixels of each model over images.

    Only objects that every model finds count, so that one that finds more is not charged for it.

    Args:
        models: by name: predictions of each image, as a figure shows them (``choose.shown``).
    """
    pixels = {name: dict.fromkeys(KINDS, 0) for name in models}
    missed = dict.fromkeys(models, 0)
    area = objects = 0
    for record in images:
        band = boundary_width(record.height, record.width)
        found = [pairs(index, record, of[record.id]) for of in models.values()]
        for same in zip(*found, strict=True):
            for name, pair in zip(models, same, strict=True):
                missed[name] += pair.found is None
            if any(pair.found is None for pair in same):
                continue
            objects += 1
            area += int(coco_mask.area(same[0].truth))
            for name, pair in zip(models, same, strict=True):
                maps = _maps(pair, band)
                for kind, wrong in maps.items():
                    pixels[name][kind] += int(wrong.sum())
    return {name: ErrorCount(pixels[name], area, objects, missed[name]) for name in models}


def draw_errors(
    picture: Picture,
    index: CocoIndex,
    record: ImageRecord,
    predictions: Sequence[Prediction],
    *,
    side: int = 384,
) -> Picture:
    """The wrong pixels of a model on a pale grey image; objects not found are grey.

    Args:
        picture: H×W×3 uint8.
        predictions: what is shown of the image.
        side: small images are enlarged by a whole factor to at least this shorter side.
    """
    total = {kind: np.zeros(picture.shape[:2], bool) for kind in KINDS}
    lost = np.zeros(picture.shape[:2], bool)
    for pair in pairs(index, record, predictions):
        if pair.found is None:
            lost |= _decode(pair.truth)
            continue
        for kind, wrong in _maps(pair, boundary_width(record.height, record.width)).items():
            total[kind] |= wrong
    pale = to_grey(picture, pale=0.6)
    layers = [*total.values(), lost]
    scale = enlarge(picture, side).shape[0] // picture.shape[0]
    masks = torch.from_numpy(np.stack(layers)).repeat_interleave(scale, 1)
    colours = [*KINDS.values(), NOT_FOUND]
    return draw_masks(enlarge(pale, side), masks.repeat_interleave(scale, 2), colours, opacity=1.0)


def _maps(pair: Pair, band: int) -> dict[str, Bitmap]:
    """The kinds of wrong pixels of an object that was found."""
    assert pair.found is not None
    return error_maps(_decode(pair.found), _decode(pair.truth), band=band)


def _decode(code: dict[str, object]) -> Bitmap:
    return np.asarray(coco_mask.decode(code), dtype=bool)
