"""Windows of TensorMask: squares around the cells of a pyramid, and their assignment to objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def window_boxes(places: Tensor, strides: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """Boxes of windows, P×4 float32.

    Cell (y, x) of a level is taken to be at pixel (stride·y, stride·x), where the features of a
    convolutional network are centred, and not at the centre of the pixels that it stands for.

    Args:
        places: P×4 int64: level, index of the size, row and column.
        strides: Of the levels.
        sizes: Sides of windows, in cells of their own level.
    """
    level, size, row, column = places.unbind(1)
    stride = torch.tensor(strides, device=places.device)[level]
    half = (torch.tensor(sizes, device=places.device)[size] * stride / 2)[:, None]
    centres = torch.stack([column, row], dim=1) * stride[:, None]
    return torch.cat([centres - half, centres + half], dim=1)


@dataclass(frozen=True)
class WindowGrid:
    """The S windows of an image: levels in order, cells row by row, then sizes.

    Args:
        shapes: (h, w) of the levels.
        strides: Of the levels, in pixels.
        sizes: Sides of windows, in cells of their own level; ascending.
    """

    shapes: tuple[tuple[int, int], ...]
    strides: tuple[int, ...]
    sizes: tuple[int, ...]

    def places(self, index: Tensor) -> Tensor:
        """Level, index of the size, row and column of P windows, given by number: P×4 int64."""
        shapes = torch.tensor(self.shapes, device=index.device)
        counts = shapes.prod(1) * len(self.sizes)
        ends = counts.cumsum(0)
        level = torch.bucketize(index, ends, right=True)
        rest = index - (ends - counts)[level]
        cell, width = rest // len(self.sizes), shapes[level, 1]
        return torch.stack([level, rest % len(self.sizes), cell // width, cell % width], dim=1)

    def assign(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Find the windows that are positive for exactly one of N objects (TensorMask §5.1?).

        A window is positive for an object if it contains its box (containment), its centre is at
        most a stride from the box's centre (centrality), and its side is at most twice the longer
        side of the box; the sides of windows count as one stride shorter, and the smallest windows
        are small enough for any object. A window that is positive for several objects is negative.

        Args:
            boxes: N×4.

        Returns:
            Number of each positive window and row of its object, P int64 each.
        """
        found = [self._candidates(level, boxes) for level in range(len(self.shapes))]
        windows, objects = (torch.cat(column) for column in zip(*found, strict=True))
        unique = torch.bincount(windows)[windows] == 1
        return windows[unique], objects[unique]

    def _candidates(self, level: int, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Windows of a level and rows of the objects that they are positive for."""
        (height, width), stride = self.shapes[level], self.strides[level]
        first = sum(h * w for h, w in self.shapes[:level]) * len(self.sizes)
        sizes = torch.tensor(self.sizes, device=boxes.device)
        steps = torch.arange(-1, 2, device=boxes.device)
        centres = (boxes[:, :2] + boxes[:, 2:]) / (2 * stride)
        # Only the nine nearest cells of an object may be less than a cell away.
        cells = centres.round()[:, None] + torch.cartesian_prod(steps, steps)  # N×9×2, x and y
        near = (cells - centres[:, None]).square().sum(2) <= 1
        near &= ((cells >= 0) & (cells < boxes.new_tensor([width, height]))).all(2)
        half = (sizes * (stride / 2))[:, None]
        middle = stride * cells[:, :, None]  # N×9×1×2
        contained = (middle - half <= boxes[:, None, None, :2]).all(3)
        contained &= (middle + half >= boxes[:, None, None, 2:]).all(3)
        longer = (boxes[:, 2:] - boxes[:, :2]).amax(1)
        largest = (2 * longer).clamp(min=(self.sizes[0] - 1) * self.strides[0])
        fits = (sizes - 1) * stride <= largest[:, None]
        row, cell, size = (near[:, :, None] & contained & fits[:, None]).nonzero(as_tuple=True)
        x, y = cells[row, cell].long().unbind(1)
        return first + (y * width + x) * len(self.sizes) + size, row
