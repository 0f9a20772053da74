"""A backbone with a feature pyramid."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from b2inst.structures import Features


class PyramidBackbone(nn.Module):
    """Stages of a network, fused top-down (Lin et al., CVPR 2017), by torchvision.

    Args:
        network: what the stages are children of.
        stages: name and stride of each stage, in order.
        widths: channels of the stages.
        top: coarser levels.
        strides: of the levels, finest first.
        channels: of every level.
    """

    def __init__(
        self,
        network: nn.Module,
        stages: Mapping[str, int],
        widths: list[int],
        top: ExtraFPNBlock,
        *,
        strides: Sequence[int],
        channels: int,
    ) -> None:
        super().__init__()
        self.body = IntermediateLayerGetter(network, {name: str(s) for name, s in stages.items()})
        self.fpn = FeaturePyramidNetwork(widths, channels, extra_blocks=top)
        self.out_channels = channels
        self.strides = tuple(strides)

    def forward(self, images: Tensor) -> Features:
        """B×3×H×W, sides multiples of 32 (64 with P6 by subsampling), to features by stride."""
        levels = self.fpn(OrderedDict(self.body(images)))
        return dict(zip(self.strides, levels.values(), strict=True))


class LastLevelP6(ExtraFPNBlock):
    """P6 alone; otherwise like torchvision's ``LastLevelP6P7``."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        nn.init.kaiming_uniform_(self.p6.weight, a=1)
        nn.init.zeros_(self.p6.bias)  # type: ignore[arg-type]

    def forward(
        self, results: list[Tensor], x: list[Tensor], names: list[str]
    ) -> tuple[list[Tensor], list[str]]:
        return [*results, self.p6(results[-1])], [*names, "p6"]
