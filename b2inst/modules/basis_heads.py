"""Basis heads: global mask bases from the feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from b2inst.modules.interfaces import BasisPredictor
from b2inst.modules.layers import NormLayer, conv_block, conv_norm, initialise
from b2inst.modules.semantic_heads import ClassMapHead, SemanticHead
from b2inst.ops.frame_masks import aligned_bilinear
from b2inst.structures import Bases, Features


class BasisHead(BasisPredictor):
    """Refine each level, sum them at the finest, convolve, upsample, project to K maps.

    Args:
        strides: Of the levels used, finest first.
        upsampling: From the finest level to the grid of the bases.
        num_convs: 3×3 convolutions before the upsampling.
        last_conv: One more after it.
        auxiliary: Auxiliary task, trained on the same features.
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
        last_conv: bool = True,
        auxiliary: SemanticHead | None = None,
    ) -> None:
        super().__init__()
        self.num_bases = num_bases
        self.strides = tuple(strides)
        self.upsampling = upsampling
        self.refine = nn.ModuleList(conv_block(in_channels, channels) for _ in strides)
        self.convs = nn.Sequential(*(conv_block(channels, channels) for _ in range(num_convs)))
        if last_conv:
            self.upsampled_conv = conv_block(channels, channels)
        self.project = nn.Conv2d(channels, num_bases, 1)
        self.auxiliary = auxiliary

    def forward(self, features: Features) -> Bases:
        finest, *coarser = self._refined(features)
        height, width = finest.shape[-2:]
        x = sum((_resize(level, height, width) for level in coarser), start=finest)
        x = _resize(self.convs(x), self.upsampling * height, self.upsampling * width)
        x = self.upsampled_conv(x)
        return Bases(self.project(x).float(), stride=self.strides[0] // self.upsampling)

    def _refined(self, features: Features) -> list[Tensor]:
        pairs = zip(self.refine, self.strides, strict=True)
        return [block(features[stride]) for block, stride in pairs]


def _resize(x: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(x, size=(height, width), mode="bilinear")


class MaskBranch(BasisHead):
    """CondInst's: no upsampling, and levels are aligned at their corners (CondInst §3.2)."""

    def __init__(self, **options: Any) -> None:
        super().__init__(upsampling=1, last_conv=False, **options)

    def forward(self, features: Features) -> Bases:
        finest = self.strides[0]
        levels = zip(self._refined(features), self.strides, strict=True)
        first, *others = (aligned_bilinear(level, stride // finest) for level, stride in levels)
        maps = self.project(self.convs(sum(others, start=first)))
        return Bases(maps.float(), stride=finest)


class PrototypeHead(BasisPredictor):
    """Convolve one level, upsample twofold, convolve, project to K maps; ReLU after each.

    Args:
        stride: Of the level used.
        cell: Input pixels per cell of the prototypes (default: half the stride; less if the image's
            side is no multiple of the stride, since levels are rounded up).
        num_convs: 3×3 convolutions before the upsampling; one more follows it.
        norm: Builds a norm after each of these convolutions; None, as published.
        auxiliary: Auxiliary task, trained on the same features.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_bases: int = 32,
        stride: int = 8,
        cell: float | None = None,
        channels: int = 256,
        num_convs: int = 3,
        norm: NormLayer | None = None,
        auxiliary: ClassMapHead | None = None,
    ) -> None:
        super().__init__()
        self.num_bases = num_bases
        self.stride = stride
        self.cell = stride / 2 if cell is None else cell
        widths = [in_channels] + [channels] * num_convs
        self.convs = nn.ModuleList(conv_norm(wide, channels, norm) for wide in widths[:num_convs])
        self.upsampled_conv = conv_norm(widths[-1], channels, norm)
        self.project = nn.Conv2d(channels, num_bases, 1)
        initialise(self, nn.init.xavier_uniform_)
        self.auxiliary = auxiliary

    def forward(self, features: Features) -> Bases:
        x = features[self.stride]
        for conv in self.convs:
            x = F.relu(conv(x))
        x = F.interpolate(x, scale_factor=2, mode="bilinear")
        x = F.relu(self.upsampled_conv(x))
        return Bases(F.relu(self.project(x)).float(), stride=self.cell)
