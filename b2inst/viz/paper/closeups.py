"""Close-ups of single objects, for the boundary area (paper Fig. 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from b2inst.data import CocoIndex, ImageRecord
from b2inst.evaluation import Prediction
from b2inst.ops.masks import decode_rle
from b2inst.viz.choose import object_quality
from b2inst.viz.draw import Colour, Picture, draw_masks, enlarge, to_grey

MASK: Colour = (230, 159, 0)
TRUTH: Colour = (0, 114, 178)

Window = tuple[int, int, int, int]  #: top, left, bottom, right in whole pixels, ends exclusive


def object_gains(
    index: CocoIndex,
    images: Sequence[ImageRecord],
    first: Mapping[int, Sequence[Prediction]],
    second: Mapping[int, Sequence[Prediction]],
) -> dict[int, float]:
    """Gain of the second model in √(mask IoU · boundary Dice), by the objects' ids.

    Args:
        first, second: predictions by image, as a figure shows them.

    Returns:
        Of the objects that both models find, −1 to 1.
    """
    gains = {}
    for record in images:
        objects = [a for a in index.annotations[record.id] if not a.crowd]
        a, b = (object_quality(index, record, found[record.id]) for found in (first, second))
        both = ~(a.isnan() | b.isnan())
        for place in both.nonzero()[:, 0].tolist():
            gains[objects[place].id] = float(b[place] - a[place])
    return gains


def window_around(
    box: tuple[float, float, float, float], size: tuple[int, int], *, margin: float = 0.15
) -> Window:
    """A square around a box; smaller where the image is.

    Args:
        box: x1 y1 x2 y2 in pixels.
        size: (height, width) of the image.
        margin: on each side, as a fraction of the box's longer side.
    """
    x1, y1, x2, y2 = box
    side = min(round(max(x2 - x1, y2 - y1) * (1 + 2 * margin)), *size)
    top = min(max(round((y1 + y2 - side) / 2), 0), size[0] - side)
    left = min(max(round((x1 + x2 - side) / 2), 0), size[1] - side)
    return top, left, top + side, left + side


def draw_closeup(
    picture: Picture,
    mask: Mapping[str, Any] | None,
    truth: Mapping[str, Any],
    window: Window,
    *,
    side: int = 384,
) -> Picture:
    """A mask in orange and the outline of the true one in blue, in a window of the grey image.

    Args:
        picture: H×W×3 uint8.
        mask, truth: run-length codes of whole images; without ``mask`` only the outline is drawn.
        side: small windows are enlarged by a whole factor to at least this side.
    """
    top, left, bottom, right = window
    drawn = enlarge(to_grey(picture[top:bottom, left:right]), side)
    scale = drawn.shape[0] // (bottom - top)
    for code, colour, opacity in ((mask, MASK, 0.45), (truth, TRUTH, 0.0)):
        if code is not None:
            bits = decode_rle([dict(code)])[:, top:bottom, left:right]
            large = bits.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
            drawn = draw_masks(drawn, large, [colour], opacity=opacity)
    return drawn


def crop_map(values: torch.Tensor, window: Window, size: tuple[int, int]) -> torch.Tensor:
    """The part of a map over the image that a window shows.

    Args:
        values: h×w, over the whole image.
        window: in the image's pixels.
        size: (height, width) of the image.

    Returns:
        The window at the image's resolution (bilinear).
    """
    top, left, bottom, right = window
    whole = torch.nn.functional.interpolate(
        values[None, None].float(), size=size, mode="bilinear", align_corners=False
    )
    return whole[0, 0, top:bottom, left:right]
