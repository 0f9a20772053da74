"""A small backbone that trains from scratch on a CPU in minutes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, conv1x1
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork

from b2inst.structures import Features


class TinyFPN(nn.Module):
    """One residual block a stage, a pyramid at strides 4 to 32.

    Args:
        widths: channels at strides 2, 4, 8, 16 and 32.
        channels: of every level of the pyramid.
    """

    strides = (4, 8, 16, 32)

    def __init__(
        self, *, widths: Sequence[int] = (16, 32, 64, 96, 128), channels: int = 48
    ) -> None:
        super().__init__()
        self.stem = Conv2dNormActivation(3, widths[0], stride=2)
        self.stages = nn.ModuleList()
        for wide_in, wide_out in pairwise(widths):
            shortcut = nn.Sequential(conv1x1(wide_in, wide_out, stride=2), nn.BatchNorm2d(wide_out))
            self.stages.append(BasicBlock(wide_in, wide_out, stride=2, downsample=shortcut))
        self.fpn = FeaturePyramidNetwork(list(widths[1:]), channels)
        self.out_channels = channels

    def forward(self, images: Tensor) -> Features:
        """B×3×H×W, sides multiples of 32, to features by stride."""
        x = self.stem(images)
        levels: OrderedDict[str, Tensor] = OrderedDict()
        for stride, stage in zip(self.strides, self.stages, strict=True):
            levels[str(stride)] = x = stage(x)
        return dict(zip(self.strides, self.fpn(levels).values(), strict=True))
