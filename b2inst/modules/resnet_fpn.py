"""ResNet with a feature pyramid P3–P7, after FCOS, on torchvision's parts."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models import get_model, resnet
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from b2inst.structures import Features

_STAGES = {"layer2": "8", "layer3": "16", "layer4": "32"}


class ResNetFPN(nn.Module):
    """C3–C5 of a ResNet, P3–P5 by top-down fusion, P6 and P7 by strided convolutions of P5.

    Args:
        resnet: "resnet18", "resnet34", "resnet50" or "resnet101".
        frozen_norm: batch norm with fixed statistics and affine parameters, and no gradient for
            the stem and the first stage, as for pretrained weights; else ordinary, trained.
        stride_in_1x1: put each stage's stride in its first 1×1 convolution (detectron2's MSRA
            weights) rather than in the 3×3 (torchvision's weights). Bottleneck ResNets only.
        channels: of every level of the pyramid.
    """

    def __init__(
        self,
        *,
        resnet: str,
        frozen_norm: bool,
        stride_in_1x1: bool = False,
        channels: int = 256,
    ) -> None:
        super().__init__()
        norm = FrozenBatchNorm2d if frozen_norm else nn.BatchNorm2d
        body = get_model(resnet, weights=None, norm_layer=norm)
        if stride_in_1x1:
            _move_strides(body)
        if frozen_norm:
            for module in (body.conv1, body.layer1):
                module.requires_grad_(False)
        widths = [getattr(body, stage)[-1].conv2.out_channels for stage in _STAGES]
        if isinstance(body.layer1[0], _Bottleneck):
            widths = [getattr(body, stage)[-1].conv3.out_channels for stage in _STAGES]
        self.body = IntermediateLayerGetter(body, return_layers=dict(_STAGES))
        self.fpn = FeaturePyramidNetwork(
            widths, channels, extra_blocks=LastLevelP6P7(channels, channels)
        )
        self.out_channels = channels

    def forward(self, images: Tensor) -> Features:
        """B×3×H×W, sides multiples of 32, to features at strides 8, 16, 32, 64 and 128."""
        levels = self.fpn(OrderedDict(self.body(images)))
        return dict(zip((8, 16, 32, 64, 128), levels.values(), strict=True))


_Bottleneck = resnet.Bottleneck


def _move_strides(body: resnet.ResNet) -> None:
    for stage in _STAGES:
        block = getattr(body, stage)[0]
        if not isinstance(block, _Bottleneck):
            raise ValueError("stride_in_1x1 needs a bottleneck ResNet (resnet50 or resnet101)")
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
