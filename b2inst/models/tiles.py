"""How a large image is cut into overlapping tiles, and what was found in them put together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from b2inst.ops.masks import covered
from b2inst.structures import Instances

#: Pixels that neighbouring tiles share. An object that is no larger is whole in one of them.
OVERLAP = 128


class TileError(ValueError):
    """Tiles too small, or of a model that resizes what it sees."""


class Span(NamedTuple):
    """The pixels of a tile along one axis, ends exclusive."""

    start: int
    stop: int
    core_start: float  #: centres of boxes from here …
    core_stop: float  #: … to here are this tile's, others its neighbours'


def spans(length: int, side: int, *, divisor: int) -> list[Span]:
    """Tiles along an axis of an image.

    Args:
        length: of the axis, in pixels.
        side: of a tile, more than ``OVERLAP``.
        divisor: tiles start at multiples of it, where the network has cells of the same pixels as
            in the whole image.

    Raises:
        TileError: the side is too small.
    """
    step = (side - OVERLAP) // divisor * divisor
    if step < 1:
        raise TileError(f"tile {side}: give {OVERLAP + divisor} pixels or more, or None")
    starts = [0, *range(step, length - OVERLAP, step)] if length > side else [0]
    cores = [0.0, *(start + OVERLAP / 2 for start in starts[1:]), float(length)]
    return [
        Span(start, min(start + side, length), *core)
        for start, core in zip(starts, pairwise(cores), strict=True)
    ]


def joined(
    found: Iterable[tuple[Span, Span, Instances]], size: tuple[int, int], *, most: int
) -> Instances:
    """The instances of an image from those of its tiles.

    Each is taken from the tile whose core the centre of its box is in, and of its mask only the
    rectangle that it covers is held until the best are known.

    Args:
        found: vertical and horizontal span of each tile, and what was found in it, in its pixels.
        size: (height, width) of the image.
        most: instances that are kept, the best.

    Returns:
        N×H×W masks, like all instances: the memory that they need grows with the image.
    """
    parts: dict[str, list[Tensor]] = {}
    places: list[tuple[int, int, Tensor]] = []
    for down, across, instances in found:
        shift = instances.boxes.new_tensor([across.start, down.start] * 2)
        boxes = instances.boxes + shift
        x, y = boxes[:, 0::2].mean(1), boxes[:, 1::2].mean(1)
        own = (across.core_start <= x) & (x < across.core_stop)
        own &= (down.core_start <= y) & (y < down.core_stop)
        for i in own.nonzero()[:, 0].tolist():
            top, left, mask = covered(instances.masks[i])
            places.append((down.start + top, across.start + left, mask.clone()))
        values = vars(replace(instances, boxes=boxes, masks=own)[own])  # without the masks
        for name, value in values.items():
            if isinstance(value, Tensor):
                parts.setdefault(name, []).append(value)
    columns = {name: torch.cat(values) for name, values in parts.items()}
    order = columns["scores"].argsort(descending=True, stable=True)[:most]
    masks = torch.zeros((len(order), *size), dtype=torch.bool, device=order.device)
    for canvas, i in zip(masks, order.tolist(), strict=True):
        top, left, mask = places[i]
        canvas[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    kept = {name: value[order] for name, value in columns.items()} | {"masks": masks}
    return Instances(**kept, class_names=instances.class_names)
