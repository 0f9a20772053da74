"""A convolution that can be evaluated at chosen positions only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PositionConv(nn.Conv2d):
    """A 3×3 convolution whose output is wanted at few positions.

    Predicting an instance's coefficients is the widest convolution of BlendMask (784 channels
    with 14×14 attention), and only a handful of positions is ever used.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)

    def at(self, feature: Tensor, image: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The output's vectors at P positions.

        Args:
            feature: B×C×h×w.
            image, row, column: P int64 each.

        Returns:
            P×D, equal to ``self(feature)[image, :, row, column]``.
        """
        height, width = feature.shape[-2:]
        offsets = torch.arange(-1, 2, device=feature.device)
        rows = row[:, None, None] + offsets[:, None]
        columns = column[:, None, None] + offsets
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        patches = feature.permute(0, 2, 3, 1)[image[:, None, None], rows, columns]  # P×3×3×C
        patches = patches.to(self.weight.dtype) * inside[..., None]
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(patches.flatten(1), weight, self.bias)
