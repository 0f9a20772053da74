"""Batch norm with fixed statistics, for pretrained backbones."""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import FrozenBatchNorm2d


class FrozenNorm(FrozenBatchNorm2d):
    """torchvision's, with an output as precise as its input.

    There, maps in half precision come out in single, so that mixed precision would save no memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(x.dtype)
