"""The backbone of two-stage models: a ResNet with a feature pyramid P2–P6."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from b2inst.modules.resnet_fpn import resnet_body
from b2inst.structures import Features


class RCNNFPN(nn.Module):
    """C2–C5 of a ResNet, P2–P5 by top-down fusion, P6 by subsampling P5 (Lin et al., CVPR 2017).

    Args:
        resnet, frozen_norm, stride_in_1x1, channels: as of ``ResNetFPN``.
    """

    strides = (4, 8, 16, 32, 64)

    def __init__(
        self,
        *,
        resnet: str,
        frozen_norm: bool,
        stride_in_1x1: bool = False,
        channels: int = 256,
    ) -> None:
        super().__init__()
        self.body, widths = resnet_body(
            resnet,
            finest=4,
            frozen_norm=frozen_norm,
            stride_in_1x1=stride_in_1x1,
        )
        self.fpn = FeaturePyramidNetwork(widths, channels, extra_blocks=LastLevelMaxPool())
        self.out_channels = channels

    def forward(self, images: Tensor) -> Features:
        """B×3×H×W, sides multiples of 64, to features by stride."""
        levels = self.fpn(OrderedDict(self.body(images)))
        return dict(zip(self.strides, levels.values(), strict=True))
