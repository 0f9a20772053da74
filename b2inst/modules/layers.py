"""Layers that several heads share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops.poolers import LevelMapper

from b2inst.ops.roi_align import roi_align
from b2inst.structures import Features


def initialise(part: nn.Module, weight: Callable[[Tensor], object]) -> None:
    """Initialise all convolutions and linear layers of a part.

    Args:
        part: whose layers are initialised; biases are set to 0.
        weight: initialises a weight in place, such as ``nn.init.xavier_uniform_``.
    """
    for layer in part.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            weight(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def mlp(
    inputs: int, hidden: int, outputs: int | None = None, *, norm: Callable[[int], nn.Module]
) -> list[nn.Module]:
    """Layers of a perceptron: two of ``hidden`` units, each with norm and ReLU, and a linear one.

    Args:
        inputs: features that go in.
        hidden: width of the two layers.
        outputs: of the linear layer; None leaves it out.
        norm: builds a norm from a width.
    """
    layers: list[nn.Module] = []
    for width in (inputs, hidden):
        layers += [nn.Linear(width, hidden), norm(hidden), nn.ReLU()]
    return layers if outputs is None else [*layers, nn.Linear(hidden, outputs)]


class PositionConv(nn.Conv2d):
    """A 3×3 convolution whose output is needed at few positions.

    The coefficients are the widest convolution of BlendMask (784 channels with 14×14 attention).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=3, padding=1)

    def at(self, levels: Sequence[Tensor], image: Tensor, position: Tensor) -> Tensor:
        """The output at P positions.

        Args:
            levels: features, B×C×h×w each.
            image, position: P int64 each; positions are cells of all levels, row by row.

        Returns:
            P×D, equal to the convolution of the level at that position.
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
    """RoIAlign with aligned corners.

    torchvision's ``MultiScaleRoIAlign`` is half a cell off pasted masks and cropped targets.

    Args:
        strides: of the levels; a box of 224 pixels reads stride 16 (Lin et al., CVPR 2017, Eq. 1).
        size: R.
        samples: points to average in a bin, along each side; 0 for one in each cell it spans.
    """

    def __init__(self, *, strides: Sequence[int], size: int, samples: int = 2) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.size = size
        self.samples = samples
        self.level = LevelMapper(*(int(math.log2(s)) for s in (strides[0], strides[-1])))

    def forward(
        self, features: Features, boxes: list[Tensor], levels: Tensor | None = None
    ) -> Tensor:
        """N×C×R×R.

        Args:
            boxes: per image, in network-input pixels.
            levels: N int64, which of the levels each box reads (default: by its size).
        """
        levels = self.level(boxes) if levels is None else levels
        image = torch.cat([b.new_full((len(b), 1), i) for i, b in enumerate(boxes)])
        rois = torch.cat([image, torch.cat(boxes)], dim=1)
        order = levels.argsort(stable=True)
        rows = order.split(levels.bincount(minlength=len(self.strides)).tolist())
        pooled = [
            roi_align(features[stride], rois[at], self.size, 1 / stride, self.samples)
            for stride, at in zip(self.strides, rows, strict=True)
        ]
        return torch.cat(pooled)[order.argsort()]
