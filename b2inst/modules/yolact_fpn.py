"""YOLACT's backbone: a ResNet with a feature pyramid P3–P7."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.models._utils import IntermediateLayerGetter

from b2inst.modules.frozen_norm import FrozenNorm
from b2inst.modules.resnet_fpn import stage_widths
from b2inst.structures import Features

_STAGES = {"layer2": "8", "layer3": "16", "layer4": "32"}


class YolactFPN(nn.Module):
    """P3–P5 from C3–C5 of a ResNet, P6 and P7 by strided convolutions of P5.

    Unlike torchvision's pyramid it upsamples bilinearly, and P3–P5 (not P6 and P7) end in a ReLU.
    Sides of the image need not be multiples of the strides.

    Args:
        resnet: "resnet18", "resnet34", "resnet50" or "resnet101".
        frozen_norm: fix the statistics and affine parameters of batch norm, as YOLACT does with
            fewer than six images on a device.
        channels: of every level of the pyramid.
    """

    strides = (8, 16, 32, 64, 128)

    def __init__(self, *, resnet: str, frozen_norm: bool = False, channels: int = 256) -> None:
        super().__init__()
        norm = FrozenNorm if frozen_norm else nn.BatchNorm2d
        network = get_model(resnet, weights=None, norm_layer=norm)
        widths = stage_widths(network, _STAGES)
        self.body = IntermediateLayerGetter(network, dict(_STAGES))
        self.lateral = nn.ModuleList(nn.Conv2d(wide, channels, 1) for wide in widths)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in widths)
        self.top = nn.ModuleList(
            nn.Conv2d(channels, channels, 3, stride=2, padding=1) for _ in range(2)
        )
        for conv in (*self.lateral, *self.output, *self.top):
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)
        self.out_channels = channels

    def forward(self, images: Tensor) -> Features:
        """B×3×H×W to features by stride; sides are halved and rounded up, level by level."""
        levels: list[Tensor] = []
        stages = zip(reversed(self.body(images).values()), reversed(self.lateral), strict=True)
        for stage, lateral in stages:
            x = lateral(stage)
            if levels:
                x = x + F.interpolate(levels[0], x.shape[-2:], mode="bilinear")
            levels.insert(0, x)
        levels = [F.relu(conv(x)) for conv, x in zip(self.output, levels, strict=True)]
        for conv in self.top:
            levels.append(conv(levels[-1]))
        return dict(zip(self.strides, levels, strict=True))
