"""Layers that several heads share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation
from torchvision.ops._utils import convert_boxes_to_roi_format
from torchvision.ops.poolers import LevelMapper

from b2inst.ops.roi_align import roi_align
from b2inst.structures import Features

#: Builds a norm from a number of channels.
NormLayer = Callable[[int], nn.Module]


def initialise(part: nn.Module, weight: Callable[[Tensor], object]) -> None:
    """Initialise the weights of convolutions and linear layers in place; biases are set to 0."""
    for layer in part.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            weight(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def conv_norm(channels_in: int, channels_out: int, norm: NormLayer | None) -> nn.Module:
    """A 3×3 convolution, followed by a norm, if any."""
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1)
    return conv if norm is None else nn.Sequential(conv, norm(channels_out))


def conv_block(channels_in: int, channels_out: int) -> nn.Module:
    """A 3×3 convolution without bias, batch norm and ReLU."""
    block = Conv2dNormActivation(channels_in, channels_out)
    nn.init.kaiming_uniform_(block[0].weight, a=1)
    return block


def conv_tower(in_channels: int, widths: Sequence[int]) -> nn.Sequential:
    """3×3 convolutions to each width, each with group norm and ReLU."""
    layers: list[nn.Module] = []
    for wide_in, wide_out in pairwise([in_channels, *widths]):
        norm = partial(nn.GroupNorm, min(32, wide_out // 4))
        layers += Conv2dNormActivation(wide_in, wide_out, norm_layer=norm, bias=True)
    return nn.Sequential(*layers)


def mlp(
    inputs: int, hidden: int, outputs: int | None = None, *, norm: NormLayer
) -> list[nn.Module]:
    """Two linear layers, each with norm and ReLU, and a third one to ``outputs``, if given."""
    layers: list[nn.Module] = []
    for width in (inputs, hidden):
        layers += [nn.Linear(width, hidden), norm(hidden), nn.ReLU()]
    return layers if outputs is None else [*layers, nn.Linear(hidden, outputs)]


def by_position(levels: Iterable[Tensor], each: int = 1) -> Tensor:
    """Flatten B×(each·C)×h×w maps of all levels to B×S×C float32: cells row by row, then each."""
    flat = [level.unflatten(1, (each, -1)).permute(0, 3, 4, 1, 2).flatten(1, 3) for level in levels]
    return torch.cat(flat, dim=1).float()


class PositionConv(nn.Conv2d):
    """A 3×3 convolution, the widest of BlendMask, that is computed at few positions only."""

    def at(self, levels: Sequence[Tensor], image: Tensor, position: Tensor) -> Tensor:
        """Compute the output of B×C×h×w levels at P positions, P×D.

        ``position`` (P int64, of an ``image``) counts the cells of all levels, row by row.
        """
        shapes = torch.tensor([level.shape[2:] for level in levels], device=position.device)
        counts = shapes.prod(1)
        ends = counts.cumsum(0)
        of = torch.bucketize(position, ends, right=True)
        first = (ends - counts)[of, None, None]
        height, width = shapes[of, :, None, None].unbind(1)
        cell = position[:, None, None] - first
        offsets = torch.arange(-1, 2, device=position.device)
        rows, columns = cell // width + offsets[:, None], cell % width + offsets
        outside = (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)
        cells = torch.cat([level.permute(0, 2, 3, 1).flatten(1, 2) for level in levels], 1)
        index = (first + rows * width + columns).masked_fill(outside, 0)
        patches = cells[image[:, None, None], index]  # P×3×3×C
        patches = patches.to(self.weight.dtype).masked_fill(outside[..., None], 0)
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return F.linear(patches.flatten(1), weight, self.bias)


class RoIPooler(nn.Module):
    """RoIAlign of a pyramid with aligned corners, unlike torchvision's ``MultiScaleRoIAlign``.

    Args:
        strides: Of the levels; a box of 224 pixels is pooled from stride 16.
        size: R.
        samples: Sampling points per bin along each side; 0 for one in each cell it spans.
    """

    def __init__(self, *, strides: Sequence[int], size: int, samples: int = 2) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.size = size
        self.samples = samples
        self.level = LevelMapper(int(math.log2(strides[0])), int(math.log2(strides[-1])))

    def forward(
        self, features: Features, boxes: list[Tensor], levels: Tensor | None = None
    ) -> Tensor:
        """Pool N boxes, given per image in network-input pixels, to N×C×R×R.

        ``levels`` is which of the levels each is pooled from, N int64 (default: by its size).
        """
        rois = convert_boxes_to_roi_format(boxes)
        levels = self.level(boxes) if levels is None else levels
        order = levels.argsort(stable=True)
        rows = order.split(levels.bincount(minlength=len(self.strides)).tolist())
        pooled = [
            roi_align(features[stride], rois[at], self.size, 1 / stride, self.samples)
            for stride, at in zip(self.strides, rows, strict=True)
        ]
        return torch.cat(pooled)[order.argsort()]
