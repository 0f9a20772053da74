"""MobileNetV2 with a feature pyramid at strides 4 to 32."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FeaturePyramidNetwork

from b2inst.modules.frozen_norm import FrozenNorm
from b2inst.modules.imagenet import load_imagenet
from b2inst.modules.resnet_fpn import LastLevelP6
from b2inst.structures import Features

#: The last block of each stage that is used, and its stride.
_STAGES = {"3": "4", "6": "8", "13": "16"}


class MobileNetFPN(nn.Module):
    """MobileNetV2 up to stride 16; P2–P4 by top-down fusion, P5 by a strided convolution of P4.

    The blocks at stride 32 are left out: they hold three quarters of the parameters.

    Args:
        weights: "imagenet" (torchvision's, see ``load_imagenet``) or None for random ones.
        frozen_norm: fix the statistics and affine parameters of batch norm, and all weights up to
            stride 4, as for pretrained weights; otherwise everything is trained.
        channels: of every level of the pyramid.

    Raises:
        BackboneWeightsError: the weights cannot be had.
    """

    strides = (4, 8, 16, 32)

    def __init__(
        self, *, weights: str | None = None, frozen_norm: bool = False, channels: int = 64
    ) -> None:
        super().__init__()
        norm = FrozenNorm if frozen_norm else nn.BatchNorm2d
        network = get_model("mobilenet_v2", weights=None, norm_layer=norm)
        if weights is not None:
            load_imagenet(network, "mobilenet_v2", weights)
        blocks = network.features
        if frozen_norm:
            blocks[:4].requires_grad_(False)
        widths = [blocks[int(last)].out_channels for last in _STAGES]
        self.body = IntermediateLayerGetter(blocks, return_layers=dict(_STAGES))
        self.fpn = FeaturePyramidNetwork(
            widths, channels, extra_blocks=LastLevelP6(channels, channels)
        )
        self.out_channels = channels

    def forward(self, images: Tensor) -> Features:
        """B×3×H×W, sides multiples of 32, to features by stride."""
        levels = self.fpn(self.body(images))
        return dict(zip(self.strides, levels.values(), strict=True))
