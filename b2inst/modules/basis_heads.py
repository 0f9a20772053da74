"""Basis heads: global mask bases from the feature pyramid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from b2inst.modules.layers import initialise
from b2inst.modules.semantic_heads import ClassMapHead, FocalSemanticHead, SemanticHead, conv_block
from b2inst.ops.frame_masks import aligned_bilinear
from b2inst.structures import Bases, Features, Targets


class BasisPredictor(Protocol):
    """Global bases of a batch."""

    @property
    def num_bases(self) -> int:
        """K, as the assembler gets them."""

    def __call__(self, features: Features) -> Bases:
        """Features to bases."""

    def loss(self, features: Features, bases: Bases, targets: list[Targets]) -> dict[str, Tensor]:
        """Losses on the bases themselves; none for plain bases."""


class BasisHead(nn.Module):
    """Refine each level, sum them at the finest, convolve, upsample, project to K maps.

    Args:
        in_channels: channels of the features.
        num_bases: number of bases K.
        strides: of the levels used, finest first.
        upsampling: of the finest level, to the grid of the bases.
        channels: hidden width.
        num_convs: 3×3 convolutions before the upsampling.
        last_conv: one more after it.
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
        last_conv: bool = True,
        auxiliary: SemanticHead | FocalSemanticHead | None = None,
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


class MaskBranch(BasisHead):
    """CondInst's: no upsampling, and levels are aligned at their corners (CondInst §3.2).

    Args:
        options: in_channels, num_bases, strides, channels, num_convs and auxiliary of
            ``BasisHead``.
    """

    def __init__(self, *, num_bases: int = 8, num_convs: int = 4, **options: Any) -> None:
        super().__init__(
            num_bases=num_bases, num_convs=num_convs, upsampling=1, last_conv=False, **options
        )

    def forward(self, features: Features) -> Bases:
        finest = self.strides[0]
        refined = (
            aligned_bilinear(block(features[stride]), stride // finest)
            for block, stride in zip(self.refine, self.strides, strict=True)
        )
        maps = self.project(self.convs(reduce(torch.add, refined)))
        return Bases(maps.float(), stride=finest)


class PrototypeHead(nn.Module):
    """Convolve one level, upsample twofold, convolve, project to K maps; ReLU after each.

    Args:
        in_channels: channels of the features.
        num_bases: number of bases K.
        stride: of the level used.
        cell: input pixels per cell of the prototypes (default: half the stride). It is smaller if
            the image's side is no multiple of the stride, since levels are rounded up.
        channels: hidden width.
        num_convs: 3×3 convolutions before the upsampling; one more follows it.
        norm: builds a norm from a width, after each of these convolutions; None, as published.
        auxiliary: auxiliary task, trained on the same features.
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
        norm: Callable[[int], nn.Module] | None = None,
        auxiliary: ClassMapHead | None = None,
    ) -> None:
        super().__init__()
        self.num_bases = num_bases
        self.stride = stride
        self.cell = stride / 2 if cell is None else cell
        widths = [in_channels] + [channels] * num_convs
        self.convs = nn.ModuleList(_conv(wide, channels, norm) for wide in widths[:num_convs])
        self.upsampled_conv = _conv(widths[-1], channels, norm)
        self.project = nn.Conv2d(channels, num_bases, 1)
        initialise(self, nn.init.xavier_uniform_)
        self.auxiliary = auxiliary

    def forward(self, features: Features) -> Bases:
        x = features[self.stride]
        for conv in self.convs:
            x = F.relu(conv(x))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = F.relu(self.upsampled_conv(x))
        return Bases(F.relu(self.project(x)).float(), stride=self.cell)

    def loss(self, features: Features, bases: Bases, targets: list[Targets]) -> dict[str, Tensor]:
        """The auxiliary loss; the prototypes themselves learn from the mask loss only."""
        return {} if self.auxiliary is None else self.auxiliary.loss(features, targets)


def _conv(in_channels: int, channels: int, norm: Callable[[int], nn.Module] | None) -> nn.Module:
    conv = nn.Conv2d(in_channels, channels, 3, padding=1)
    return conv if norm is None else nn.Sequential(conv, norm(channels))
