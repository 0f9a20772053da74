"""Batch norm with fixed statistics, for pretrained backbones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import FrozenBatchNorm2d


class FrozenNorm(FrozenBatchNorm2d):
    """torchvision's, with an output as precise as its input.

    There, maps in half precision come out in single, so that mixed precision would save no memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():  # keeps no maps for the backward pass
            return super().forward(x).to(x.dtype)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )
