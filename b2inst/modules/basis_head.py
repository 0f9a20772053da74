"""The basis head: global mask bases from the feature pyramid (paper §4.1; BlendMask's ProtoNet)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from b2inst.structures import Bases, Features, Targets


class BasisHead(nn.Module):
    """Refine each level, sum them at the finest, convolve, upsample, project to K maps.

    Args:
        in_channels: of the features.
        num_bases: K.
        strides: of the features used, the finest first.
        upsampling: the bases have so many times less than the finest stride.
        channels: hidden width.
        num_convs: 3×3 convolutions before the upsampling; one more follows it.
        auxiliary: trained beside the bases on the same features, without a say in inference.
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
        x = self.convs(x)
        x = _resize(x, [self.upsampling * side for side in size])
        x = self.upsampled_conv(x)
        return Bases(self.project(x).float(), stride=self.strides[0] // self.upsampling)

    def loss(self, features: Features, bases: Bases, targets: list[Targets]) -> dict[str, Tensor]:
        """The auxiliary head's loss; the bases themselves learn from the mask loss only."""
        return {} if self.auxiliary is None else self.auxiliary.loss(features, targets)


class SemanticHead(nn.Module):
    """Auxiliary semantic segmentation of things from the finest level (BlendMask §3.1).

    Args:
        in_channels: of the features.
        num_classes: C, background is added.
        stride: of the feature read.
        weight: of the loss.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        stride: int = 8,
        channels: int = 128,
        weight: float = 0.3,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.weight = weight
        self.convs = nn.Sequential(
            conv_block(in_channels, channels), conv_block(channels, channels)
        )
        self.project = nn.Conv2d(channels, num_classes + 1, 1)

    def loss(self, features: Features, targets: list[Targets]) -> dict[str, Tensor]:
        logits = self.project(self.convs(features[self.stride])).float()
        truth = logits.new_zeros((len(logits), *logits.shape[-2:]), dtype=torch.int64)
        for canvas, target in zip(truth, targets, strict=True):
            sampled = target.semantic[:: self.stride, :: self.stride]
            canvas[: sampled.shape[0], : sampled.shape[1]] = sampled
        return {"loss_semantic": self.weight * F.cross_entropy(logits, truth)}


def conv_block(channels_in: int, channels_out: int) -> nn.Module:
    """A 3×3 convolution without bias, batch norm and ReLU."""
    block = Conv2dNormActivation(channels_in, channels_out, norm_layer=nn.BatchNorm2d)
    nn.init.kaiming_uniform_(block[0].weight, a=1)
    return block


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=list(size), mode="bilinear", align_corners=False)
