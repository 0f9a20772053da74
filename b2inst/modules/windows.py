"""Windows of TensorMask: squares around the cells of a pyramid, and their assignment to objects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from b2inst.structures import Features


def all_windows(features: Features, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """List the windows of an image: levels in order, cells row by row, then sizes.

    The cell in row y and column x is taken to be at pixel (stride·x, stride·y), not at the centre
    of the pixels that it covers.

    Args:
        features: Of which only strides and shapes are read.
        sizes: Sides of the windows of a cell, in cells of its level; ascending.

    Returns:
        Boxes S×4, and the stride of each window's level, S float32.
    """
    boxes, of_level = [], []
    for stride, maps in features.items():
        cells = [torch.arange(float(count)) for count in maps.shape[2:]]
        y, x, half = (torch.cartesian_prod(*cells, torch.tensor(sizes) / 2) * stride).unbind(1)
        boxes.append(torch.stack([x - half, y - half, x + half, y + half], dim=1))
        of_level.append(torch.full_like(x, stride))
    return torch.cat(boxes).to(maps.device), torch.cat(of_level).to(maps.device)


def assign(boxes: Tensor, windows: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
    """Find the windows that are positive for exactly one object (TensorMask, label assignment).

    A window is positive for an object if it contains its box, their centres are at most a stride
    apart, and its side is at most twice the longer side of the box. Here, sides of windows count as
    a stride less, and the smallest windows are small enough for any object.

    Args:
        boxes: N×4.
        windows: S×4, of ``all_windows``.
        strides: S, of ``all_windows``.

    Returns:
        Index of each positive window and of its object, P int64 each.
    """
    centres = (windows[:, :2] + windows[:, 2:]) / 2
    sides = windows[:, 2] - windows[:, 0] - strides
    objects = torch.zeros_like(sides, dtype=torch.int64)
    found = torch.zeros_like(objects)
    for i, box in enumerate(boxes):  # all pairs at once would take much memory
        inside = (windows[:, :2] <= box[:2]) & (windows[:, 2:] >= box[2:])
        near = (centres - (box[:2] + box[2:]) / 2).square().sum(1) <= strides.square()
        fits = sides <= (2 * (box[2:] - box[:2]).amax()).clamp(min=sides[0])
        positive = inside.all(1) & near & fits
        objects += i * positive
        found += positive
    chosen = (found == 1).nonzero()[:, 0]
    return chosen, objects[chosen]
