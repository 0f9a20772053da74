"""Masks as the part of the image that holds them: many objects of a large image fit in memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask


class CutOut(NamedTuple):
    """Part of an image."""

    window: tuple[slice, slice]  #: rows and columns of the image
    mask: NDArray[np.bool_]  #: what is in them


def cut_out(code: dict[str, Any], *, margin: int = 0) -> CutOut:
    """The mask of a run-length code, in its box.

    Args:
        margin: pixels around the box, as far as the image has them.
    """
    left, top, width, height = coco_mask.toBbox(code).astype(int).tolist()
    image_height, image_width = code["size"]
    window = (
        slice(max(top - margin, 0), min(top + height + margin, image_height)),
        slice(max(left - margin, 0), min(left + width + margin, image_width)),
    )
    return CutOut(window, np.ascontiguousarray(coco_mask.decode(code)[window]).astype(bool))


def common_pixels(one: CutOut, other: CutOut) -> int:
    """How many pixels two masks of an image share."""
    common = [
        slice(max(a.start, b.start), max(a.start, b.start, min(a.stop, b.stop)))
        for a, b in zip(one.window, other.window, strict=True)
    ]
    a, b = (
        part.mask[
            tuple(
                slice(c.start - own.start, c.stop - own.start)
                for c, own in zip(common, part.window, strict=True)
            )
        ]
        for part in (one, other)
    )
    return int(np.count_nonzero(a & b))
