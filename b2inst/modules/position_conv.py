"""A convolution that can be evaluated at chosen positions only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PositionConv(nn.Conv2d):
    """A 3×3 convolution whose output is needed at few positions.

    The coefficients are the widest convolution of BlendMask (784 channels with 14×14 attention).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)

    def at(self, levels: Sequence[Tensor], image: Tensor, position: Tensor) -> Tensor:
        """The output at P positions.

        Args:
            levels: features, B×C×h×w each.
            image, position: P int64 each; positions are cells of all levels, row by row.

        Returns:
            P×D, equal to the convolution of the level at that position.
        """
        shapes = torch.tensor([level.shape[2:] for level in levels], device=position.device)
        counts = shapes.prod(1)
        ends = counts.cumsum(0)
        of = torch.bucketize(position, ends, right=True)
        first = (ends - counts)[of, None, None]
        height, width = shapes[of, :, None, None].unbind(1)
        cell = position[:, None, None] - first
        offsets = torch.arange(-1, 2, device=position.device)
        rows, columns = cell // width + offsets[:, None], cell % width + offsets
        outside = (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)
        cells = torch.cat([level.permute(0, 2, 3, 1).flatten(1, 2) for level in levels], 1)
        index = (first + rows * width + columns).masked_fill(outside, 0)
        patches = cells[image[:, None, None], index]  # P×3×3×C
        patches = patches.to(self.weight.dtype).masked_fill(outside[..., None], 0)
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(patches.flatten(1), weight, self.bias)
