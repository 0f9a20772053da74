"""Features inside boxes, each from the level of the pyramid that suits its size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.ops.poolers import LevelMapper

from b2inst.ops.roi_align import roi_align
from b2inst.structures import Features


class RoIPooler(nn.Module):
    """RoIAlign with aligned corners.

    torchvision's ``MultiScaleRoIAlign`` is half a cell off pasted masks and cropped targets.

    Args:
        strides: of the levels; a box of 224 pixels reads stride 16 (Lin et al., CVPR 2017, Eq. 1).
        size: R.
        samples: points to average in a bin, along each side.
    """

    def __init__(self, *, strides: Sequence[int], size: int, samples: int = 2) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.size = size
        self.samples = samples
        self.level = LevelMapper(*(int(math.log2(s)) for s in (strides[0], strides[-1])))

    def forward(self, features: Features, boxes: list[Tensor]) -> Tensor:
        """N×C×R×R; ``boxes`` are per image, in network-input pixels."""
        levels = self.level(boxes)
        image = torch.cat([b.new_full((len(b), 1), i) for i, b in enumerate(boxes)])
        rois = torch.cat([image, torch.cat(boxes)], dim=1)
        order = levels.argsort(stable=True)
        rows = order.split(levels.bincount(minlength=len(self.strides)).tolist())
        pooled = [
            roi_align(features[stride], rois[at], self.size, 1 / stride, self.samples)
            for stride, at in zip(self.strides, rows, strict=True)
        ]
        return torch.cat(pooled)[order.argsort()]
