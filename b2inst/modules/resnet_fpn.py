"""ResNets with a feature pyramid, on torchvision's parts."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn
from torchvision.models import get_model, resnet
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from b2inst.modules.fpn import LastLevelP6, PyramidBackbone
from b2inst.modules.frozen_norm import FrozenNorm

#: The stages of a ResNet, and their strides.
STAGES = {"layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32}


class ResNetFPN(PyramidBackbone):
    """P3–P5 from C3–C5 of a ResNet, P6 and P7 by strided convolutions of P5, as in FCOS.

    Args:
        resnet: "resnet18", "resnet34", "resnet50" or "resnet101".
        frozen_norm: fix the statistics and affine parameters of batch norm, and the weights of the
            stem and the first stage, as for pretrained weights.
        stride_in_1x1: put each stage's stride in its first 1×1 convolution (detectron2's MSRA
            weights) rather than in the 3×3 (torchvision's weights). Bottleneck ResNets only.
        channels: of every level of the pyramid.
        top_levels: above P5: 2, or 1 to leave out P7.

    Raises:
        ValueError: ``stride_in_1x1`` of another ResNet, or other ``top_levels``.
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
        network = _resnet(resnet, frozen_norm, stride_in_1x1)
        if top_levels not in (1, 2):
            raise ValueError(f"top_levels {top_levels}: choose 1 (P6) or 2 (P6 and P7)")
        stages = {name: stride for name, stride in STAGES.items() if stride >= 8}
        super().__init__(
            network,
            stages,
            stage_widths(network, stages),
            (LastLevelP6P7 if top_levels == 2 else LastLevelP6)(channels, channels),
            strides=(8, 16, 32, 64, 128)[: 3 + top_levels],
            channels=channels,
        )


class RCNNFPN(PyramidBackbone):
    """P2–P5 from C2–C5 of a ResNet, P6 by subsampling P5, as in two-stage models.

    Args:
        resnet, frozen_norm, stride_in_1x1, channels: see ``ResNetFPN``.
    """

    def __init__(
        self, *, resnet: str, frozen_norm: bool, stride_in_1x1: bool = False, channels: int = 256
    ) -> None:
        network = _resnet(resnet, frozen_norm, stride_in_1x1)
        super().__init__(
            network,
            STAGES,
            stage_widths(network, STAGES),
            LastLevelMaxPool(),
            strides=(4, 8, 16, 32, 64),
            channels=channels,
        )


def stage_widths(network: resnet.ResNet, stages: Iterable[str]) -> list[int]:
    """Channels of a ResNet's stages."""
    blocks = [getattr(network, stage)[-1] for stage in stages]
    return [(getattr(block, "conv3", None) or block.conv2).out_channels for block in blocks]


def _resnet(name: str, frozen_norm: bool, stride_in_1x1: bool) -> resnet.ResNet:
    norm = FrozenNorm if frozen_norm else nn.BatchNorm2d
    network = get_model(name, weights=None, norm_layer=norm)
    for stage in ("layer2", "layer3", "layer4") if stride_in_1x1 else ():
        block = getattr(network, stage)[0]
        if not isinstance(block, resnet.Bottleneck):
            raise ValueError("stride_in_1x1 needs a bottleneck ResNet (resnet50 or resnet101)")
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    if frozen_norm:
        for module in (network.conv1, network.layer1):
            module.requires_grad_(False)
    return network
