"""Large images in overlapping tiles."""

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


class Span(NamedTuple):
    """The pixels of a tile along one axis, ends exclusive."""

    start: int
    stop: int
    core_start: float  #: boxes with centres from here …
    core_stop: float  #: … to here are this tile's, others its neighbours'

    def owns(self, centres: Tensor) -> Tensor:
        """Which centres are in the core: N to N bool."""
        return (self.core_start <= centres) & (centres < self.core_stop)


def spans(length: int, side: int, divisor: int) -> list[Span]:
    """Tiles of up to ``side`` pixels along an axis of an image.

    They start at multiples of the divisor, so that the network's cells are the same.
    """
    step = (side - OVERLAP) // divisor * divisor
    starts = [0, *range(step, length - OVERLAP, step)] if length > side else [0]
    cores = [0.0, *(start + OVERLAP / 2 for start in starts[1:]), float(length)]
    return [
        Span(start, min(start + side, length), *core)
        for start, core in zip(starts, pairwise(cores), strict=True)
    ]


def merge_tiles(
    tiles: Iterable[tuple[Span, Span, Instances]], size: tuple[int, int], max_detections: int
) -> Instances:
    """Take each instance from the tile whose core has the centre of its box, and keep the best.

    Until the best are known, only the rectangle that a mask covers is kept of it.

    Args:
        tiles: Rows and columns of each tile, and its instances in its own pixels.
        size: (height, width) of the image.
        max_detections: Number of instances to keep.
    """
    columns: dict[str, list[Tensor]] = {}
    crops: list[tuple[int, int, Tensor]] = []
    for down, across, instances in tiles:
        boxes = instances.boxes + instances.boxes.new_tensor([across.start, down.start] * 2)
        own = across.owns(boxes[:, 0::2].mean(1)) & down.owns(boxes[:, 1::2].mean(1))
        kept = replace(instances, boxes=boxes)[own]
        for mask in kept.masks:
            top, left, crop = covered(mask)
            crops.append((down.start + top, across.start + left, crop.clone()))
        for name, value in vars(kept).items():
            if isinstance(value, Tensor) and name != "masks":
                columns.setdefault(name, []).append(value)
    merged = {name: torch.cat(values) for name, values in columns.items()}
    order = merged["scores"].argsort(descending=True, stable=True)[:max_detections]
    masks = torch.zeros((len(order), *size), dtype=torch.bool, device=order.device)
    for canvas, i in zip(masks, order.tolist(), strict=True):
        top, left, crop = crops[i]
        canvas[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    best = {name: value[order] for name, value in merged.items()} | {"masks": masks}
    return Instances(**best, class_names=instances.class_names)
