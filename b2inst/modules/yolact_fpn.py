"""YOLACT's backbone: a ResNet with a feature pyramid P3–P7."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model, resnet
from torchvision.models._utils import IntermediateLayerGetter

from b2inst.modules.frozen_norm import FrozenNorm
from b2inst.structures import Features

_STAGES = {"layer2": "8", "layer3": "16", "layer4": "32"}


class YolactFPN(nn.Module):
    """C3–C5 of a ResNet, P3–P5 by top-down fusion, P6 and P7 by strided convolutions of P5.

    Unlike torchvision's pyramid it goes down bilinearly, and P3–P5 (not P6 and P7) end in a ReLU.
    Sides of the image need not be multiples of the strides.

    Args:
        resnet: "resnet18", "resnet34", "resnet50" or "resnet101".
        frozen_norm: batch norm with fixed statistics and affine parameters, as YOLACT trains with
            fewer than six images on a device; else ordinary, trained.
        channels: of every level of the pyramid.
    """

    strides = (8, 16, 32, 64, 128)

    def __init__(self, *, resnet: str, frozen_norm: bool = False, channels: int = 256) -> None:
        super().__init__()
        norm = FrozenNorm if frozen_norm else nn.BatchNorm2d
        body = get_model(resnet, weights=None, norm_layer=norm)
        widths = [_width(getattr(body, stage)[-1]) for stage in _STAGES]
        self.body = IntermediateLayerGetter(body, return_layers=dict(_STAGES))
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
        """B×3×H×W to features by stride; sides are divided and rounded up, level by level."""
        x: Tensor | None = None
        levels: list[Tensor] = []
        for stage, lateral in zip(
            reversed(self.body(images).values()), reversed(self.lateral), strict=True
        ):
            finer = lateral(stage)
            if x is not None:
                finer = finer + F.interpolate(
                    x, finer.shape[-2:], mode="bilinear", align_corners=False
                )
            x = finer
            levels.insert(0, x)
        levels = [F.relu(conv(x)) for conv, x in zip(self.output, levels, strict=True)]
        for conv in self.top:
            levels.append(conv(levels[-1]))
        return dict(zip(self.strides, levels, strict=True))


def _width(block: nn.Module) -> int:
    last = block.conv3 if isinstance(block, resnet.Bottleneck) else block.conv2
    return int(last.out_channels)  # type: ignore[union-attr, arg-type]
