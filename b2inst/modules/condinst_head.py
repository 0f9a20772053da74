"""The instance head of CondInst: FCOS whose coefficients include their position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from b2inst.modules.fcos_head import DenseOutputs, FCOSHead
from b2inst.modules.fcos_targets import mask_centroids


class LevelScale(nn.Module):
    """A learned factor (FCOS §3.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class CondInstHead(FCOSHead):
    """FCOS with three changes (CondInst §3.1, and its published code).

    Each level's box distances have a learned factor; centre sampling uses the masks' centroids;
    the last three coefficients are not predicted: x and y of the position and the object size of
    its level (the upper end of its range, twice the lower end of the last), in network-input
    pixels.

    Args:
        num_coefficients: D, with these three.
        sizes_of_interest, fcos: arguments of ``FCOSHead``.
    """

    def __init__(
        self,
        *,
        num_coefficients: int,
        sizes_of_interest: Sequence[tuple[float, float]],
        **fcos: Any,
    ) -> None:
        super().__init__(
            num_coefficients=num_coefficients - 3,
            sizes_of_interest=sizes_of_interest,
            centres=mask_centroids,
            level_scale=LevelScale,
            **fcos,
        )
        self.level_sizes = [float(high) for _, high in sizes_of_interest[:-1]]
        self.level_sizes.append(2.0 * sizes_of_interest[-1][0])

    def coefficients_at(self, outputs: DenseOutputs, image: Tensor, position: Tensor) -> Tensor:
        """P×D: predicted coefficients, and x, y and size of the P positions."""
        levels = zip(self._points(outputs), self.level_sizes, strict=True)
        known = torch.cat([F.pad(xy, (0, 1), value=size) for xy, size in levels])
        return torch.cat([super().coefficients_at(outputs, image, position), known[position]], 1)
