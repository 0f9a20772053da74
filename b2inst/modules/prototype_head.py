"""YOLACT's basis head: prototypes from the finest level (Protonet, YOLACT §3.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from b2inst.structures import Bases, Features, Targets


class Auxiliary(Protocol):
    """Something that is trained beside the prototypes on the same features."""

    def loss(self, features: Features, targets: list[Targets]) -> dict[str, Tensor]:
        """Losses by name."""


class PrototypeHead(nn.Module):
    """Convolve one level, upsample twofold, convolve, project to K maps; ReLU after each.

    Args:
        in_channels: of the features.
        num_bases: K.
        stride: of the feature used.
        cell: input pixels per cell of the prototypes, which are spread over the whole image;
            by default half the stride. Where the image's side is no multiple of the stride, the
            levels of the pyramid are rounded up and a cell is a little smaller.
        channels: hidden width.
        num_convs: 3×3 convolutions before the upsampling; one more follows it.
        norm: of a number of channels, after each of these convolutions; None, as published.
        auxiliary: trained beside the prototypes, without a say in inference.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_bases: int = 32,
        stride: int = 8,
        cell: float | None = None,
        channels: int = 256,
        num_convs: int = 3,
        norm: Callable[[int], nn.Module] | None = None,
        auxiliary: Auxiliary | None = None,
    ) -> None:
        super().__init__()
        self.num_bases = num_bases
        self.stride = stride
        self.cell = stride / 2 if cell is None else cell
        widths = [in_channels] + [channels] * num_convs
        self.convs = nn.ModuleList(_conv(wide, channels, norm) for wide in widths[:num_convs])
        self.upsampled_conv = _conv(widths[-1], channels, norm)
        self.project = nn.Conv2d(channels, num_bases, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        self.auxiliary = auxiliary

    def forward(self, features: Features) -> Bases:
        x = features[self.stride]
        for conv in self.convs:
            x = F.relu(conv(x))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = F.relu(self.upsampled_conv(x))
        return Bases(F.relu(self.project(x)).float(), stride=self.cell)

    def loss(self, features: Features, bases: Bases, targets: list[Targets]) -> dict[str, Tensor]:
        """The auxiliary head's loss; the prototypes themselves learn from the mask loss only."""
        return {} if self.auxiliary is None else self.auxiliary.loss(features, targets)


def _conv(in_channels: int, channels: int, norm: Callable[[int], nn.Module] | None) -> nn.Module:
    conv = nn.Conv2d(in_channels, channels, 3, padding=1)
    return conv if norm is None else nn.Sequential(conv, norm(channels))
