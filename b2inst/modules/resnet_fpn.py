"""ResNet with a feature pyramid P3–P7 or P3–P6, after FCOS, on torchvision's parts."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torchvision.models import get_model, resnet
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelP6P7

from b2inst.modules.frozen_norm import FrozenNorm
from b2inst.structures import Features

#: A ResNet's stages, and their strides.
_STAGES = {"layer1": "4", "layer2": "8", "layer3": "16", "layer4": "32"}


class ResNetFPN(nn.Module):
    """C3–C5 of a ResNet, P3–P5 by top-down fusion, P6 and P7 by strided convolutions of P5.

    ``strides`` are those of the levels, finest first.

    Args:
        resnet: "resnet18", "resnet34", "resnet50" or "resnet101".
        frozen_norm: batch norm with fixed statistics and affine parameters, and no gradient for
            the stem and the first stage, as for pretrained weights; else ordinary, trained.
        stride_in_1x1: put each stage's stride in its first 1×1 convolution (detectron2's MSRA
            weights) rather than in the 3×3 (torchvision's weights). Bottleneck ResNets only.
        channels: of every level of the pyramid.
        top_levels: above P5: 2, or 1 for a pyramid that ends with P6.
    """

    def __init__(
        self,
        *,
        resnet: str,
        frozen_norm: bool,
        stride_in_1x1: bool = False,
        channels: int = 256,
        top_levels: int = 2,
    ) -> None:
        super().__init__()
        self.body, widths = resnet_body(
            resnet, finest=8, frozen_norm=frozen_norm, stride_in_1x1=stride_in_1x1
        )
        if top_levels not in (1, 2):
            raise ValueError(f"top_levels {top_levels}: choose 1 (P6) or 2 (P6 and P7)")
        top = LastLevelP6P7 if top_levels == 2 else LastLevelP6
        self.fpn = FeaturePyramidNetwork(widths, channels, extra_blocks=top(channels, channels))
        self.out_channels = channels
        self.strides = (8, 16, 32, 64, 128)[: 3 + top_levels]

    def forward(self, images: Tensor) -> Features:
        """B×3×H×W, sides multiples of 32, to features by stride."""
        levels = self.fpn(OrderedDict(self.body(images)))
        return dict(zip(self.strides, levels.values(), strict=True))


class LastLevelP6(ExtraFPNBlock):
    """P6 alone; otherwise as torchvision's ``LastLevelP6P7``."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        nn.init.kaiming_uniform_(self.p6.weight, a=1)
        nn.init.zeros_(self.p6.bias)  # type: ignore[arg-type]

    def forward(
        self, results: list[Tensor], x: list[Tensor], names: list[str]
    ) -> tuple[list[Tensor], list[str]]:
        return [*results, self.p6(results[-1])], [*names, "p6"]


def resnet_body(
    name: str, *, finest: int, frozen_norm: bool, stride_in_1x1: bool
) -> tuple[IntermediateLayerGetter, list[int]]:
    """A ResNet without its classifier, which gives its stages by stride, and their channels.

    Args:
        name, frozen_norm, stride_in_1x1: as of ``ResNetFPN``.
        finest: stride of the first stage that is given.
    """
    norm = FrozenNorm if frozen_norm else nn.BatchNorm2d
    body = get_model(name, weights=None, norm_layer=norm)
    if stride_in_1x1:
        _move_strides(body)
    if frozen_norm:
        for module in (body.conv1, body.layer1):
            module.requires_grad_(False)
    last = "conv3" if isinstance(body.layer1[0], _Bottleneck) else "conv2"
    stages = {stage: stride for stage, stride in _STAGES.items() if int(stride) >= finest}
    widths = [getattr(getattr(body, stage)[-1], last).out_channels for stage in stages]
    return IntermediateLayerGetter(body, return_layers=stages), widths


_Bottleneck = resnet.Bottleneck


def _move_strides(body: resnet.ResNet) -> None:
    for stage in ("layer2", "layer3", "layer4"):
        block = getattr(body, stage)[0]
        if not isinstance(block, _Bottleneck):
            raise ValueError("stride_in_1x1 needs a bottleneck ResNet (resnet50 or resnet101)")
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
