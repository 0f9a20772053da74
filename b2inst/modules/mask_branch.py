"""CondInst's mask branch: the global maps that its dynamic filters read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from b2inst.modules.conv_block import conv_block
from b2inst.modules.semantic_heads import FocalSemanticHead
from b2inst.ops.aligned_bilinear import aligned_bilinear
from b2inst.structures import Bases, Features, Targets


class MaskBranch(nn.Module):
    """Refine each level, sum them at the finest, convolve, project to K maps (CondInst §3.2).

    Args:
        in_channels: channels of the features.
        num_bases: number of bases K.
        strides: of the levels used, finest first.
        channels: hidden width.
        num_convs: 3×3 convolutions after the sum.
        auxiliary: auxiliary task, trained on the same features.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_bases: int = 8,
        strides: Sequence[int] = (8, 16, 32),
        channels: int = 128,
        num_convs: int = 4,
        auxiliary: FocalSemanticHead | None = None,
    ) -> None:
        super().__init__()
        self.num_bases = num_bases
        self.strides = tuple(strides)
        self.refine = nn.ModuleList(conv_block(in_channels, channels) for _ in strides)
        self.convs = nn.Sequential(*(conv_block(channels, channels) for _ in range(num_convs)))
        self.project = nn.Conv2d(channels, num_bases, 1)
        self.auxiliary = auxiliary

    def forward(self, features: Features) -> Bases:
        finest = self.strides[0]
        refined = (
            aligned_bilinear(block(features[stride]), stride // finest)
            for block, stride in zip(self.refine, self.strides, strict=True)
        )
        maps = self.project(self.convs(reduce(torch.add, refined)))
        return Bases(maps.float(), stride=finest)

    def loss(self, features: Features, bases: Bases, targets: list[Targets]) -> dict[str, Tensor]:
        """The auxiliary loss; the bases themselves learn from the mask loss only."""
        return {} if self.auxiliary is None else self.auxiliary.loss(features, targets)
