"""The basis head: global mask bases from the feature pyramid (paper §4.1; BlendMask's ProtoNet)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from b2inst.modules.conv_block import conv_block
from b2inst.modules.semantic_heads import SemanticHead
from b2inst.structures import Bases, Features, Targets


class BasisHead(nn.Module):
    """Refine each level, sum them at the finest, convolve, upsample, project to K maps.

    Args:
        in_channels: channels of the features.
        num_bases: number of bases K.
        strides: of the levels used, finest first.
        upsampling: of the finest level, to the grid of the bases.
        channels: hidden width.
        num_convs: 3×3 convolutions before the upsampling; one more follows it.
        auxiliary: auxiliary task, trained on the same features.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_bases: int = 4,
        strides: Sequence[int] = (8, 16, 32),
        upsampling: int = 2,
        channels: int = 128,
        num_convs: int = 3,
        auxiliary: SemanticHead | None = None,
    ) -> None:
        super().__init__()
        self.num_bases = num_bases
        self.strides = tuple(strides)
        self.upsampling = upsampling
        self.refine = nn.ModuleList(conv_block(in_channels, channels) for _ in strides)
        self.convs = nn.Sequential(*(conv_block(channels, channels) for _ in range(num_convs)))
        self.upsampled_conv = conv_block(channels, channels)
        self.project = nn.Conv2d(channels, num_bases, 1)
        self.auxiliary = auxiliary

    def forward(self, features: Features) -> Bases:
        refined = [
            block(features[stride]) for block, stride in zip(self.refine, self.strides, strict=True)
        ]
        size = refined[0].shape[-2:]
        x = reduce(torch.add, (refined[0], *(_resize(level, size) for level in refined[1:])))
        x = _resize(self.convs(x), [self.upsampling * side for side in size])
        x = self.upsampled_conv(x)
        return Bases(self.project(x).float(), stride=self.strides[0] // self.upsampling)

    def loss(self, features: Features, bases: Bases, targets: list[Targets]) -> dict[str, Tensor]:
        """The auxiliary loss; the bases themselves learn from the mask loss only."""
        return {} if self.auxiliary is None else self.auxiliary.loss(features, targets)


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=list(size), mode="bilinear", align_corners=False)
