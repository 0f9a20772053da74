"""MobileNetV2 with a feature pyramid at strides 4 to 32."""

from __future__ import annotations

from torch import nn
from torchvision.models import get_model

from b2inst.modules.fpn import LastLevelP6, PyramidBackbone
from b2inst.modules.frozen_norm import FrozenNorm
from b2inst.modules.imagenet import load_imagenet

#: The last block of each stage that is used, and its stride.
_STAGES = {"3": 4, "6": 8, "13": 16}


class MobileNetFPN(PyramidBackbone):
    """MobileNetV2 up to stride 16; P2–P4 by top-down fusion, P5 by a strided convolution of P4.

    The blocks at stride 32 are left out: they hold three quarters of the parameters.

    Args:
        weights: "imagenet" (torchvision's, see ``load_imagenet``) or None for random ones.
        frozen_norm: fix the statistics and affine parameters of batch norm, and all weights up to
            stride 4, as for pretrained weights.
        channels: of every level of the pyramid.

    Raises:
        BackboneWeightsError: the weights cannot be had.
    """

    def __init__(
        self, *, weights: str | None = None, frozen_norm: bool = False, channels: int = 64
    ) -> None:
        norm = FrozenNorm if frozen_norm else nn.BatchNorm2d
        network = get_model("mobilenet_v2", weights=None, norm_layer=norm)
        if weights is not None:
            load_imagenet(network, "mobilenet_v2", weights)
        blocks = network.features
        if frozen_norm:
            blocks[:4].requires_grad_(False)
        super().__init__(
            blocks,
            _STAGES,
            [blocks[int(last)].out_channels for last in _STAGES],
            LastLevelP6(channels, channels),
            strides=(4, 8, 16, 32),
            channels=channels,
        )
