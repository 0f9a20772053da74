"""YOLACT's basis head: prototypes from the finest level (Protonet, YOLACT §3.1)."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from b2inst.modules.semantic_heads import ClassMapHead
from b2inst.structures import Bases, Features, Targets


class PrototypeHead(nn.Module):
    """Convolve one level, upsample twofold, convolve, project to K maps; ReLU after each.

    Args:
        in_channels: channels of the features.
        num_bases: number of bases K.
        stride: of the level used.
        cell: input pixels per cell of the prototypes (default: half the stride). It is smaller if
            the image's side is no multiple of the stride, since levels are rounded up.
        channels: hidden width.
        num_convs: 3×3 convolutions before the upsampling; one more follows it.
        norm: builds a norm from a width, after each of these convolutions; None, as published.
        auxiliary: auxiliary task, trained on the same features.
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
        auxiliary: ClassMapHead | None = None,
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
        """The auxiliary loss; the prototypes themselves learn from the mask loss only."""
        return {} if self.auxiliary is None else self.auxiliary.loss(features, targets)


def _conv(in_channels: int, channels: int, norm: Callable[[int], nn.Module] | None) -> nn.Module:
    conv = nn.Conv2d(in_channels, channels, 3, padding=1)
    return conv if norm is None else nn.Sequential(conv, norm(channels))
