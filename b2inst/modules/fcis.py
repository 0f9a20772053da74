"""FCIS (Li et al., CVPR 2017) but for the backbone."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation
from torchvision.ops._utils import convert_boxes_to_roi_format

from b2inst.modules.layers import NormLayer, initialise
from b2inst.modules.mask_voting import RegionOutputs, VotingDetector, mean_losses
from b2inst.ops.roi_align import assemble_regions
from b2inst.structures import Features, ImageBatch, Targets


class FCISDetector(VotingDetector):
    """Classes and masks of regions from the same inside and outside score maps.

    Args:
        stride: Level that the score maps are computed from.
        channels, norm: Width of the convolution before them, and what builds a norm after it;
            published without.
        hard_samples: Regions per image to train on, those of the largest losses.
        side: See ``VotingDetector.detect``.
        proposals: Other arguments of ``RegionDetector``.
    """

    parts = 7  #: k, along a side of a region; each has score maps of its own
    mask_size = 21  #: R, a multiple of k

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        stride: int,
        channels: int = 1024,
        norm: NormLayer | None = None,
        hard_samples: int = 128,
        side: int = 224,
        **proposals: Any,
    ) -> None:
        super().__init__(in_channels=in_channels, **proposals)
        self.roi_heads.nms_thresh = 0.3
        self.stride, self.hard_samples, self.side = stride, hard_samples, side
        maps = (2 * (num_classes + 1) + 4) * self.parts**2
        self.conv = Conv2dNormActivation(in_channels, channels, norm_layer=norm)
        self.score_maps = nn.Linear(channels, maps)  # a 1×1 convolution, channels last
        initialise(self, partial(nn.init.normal_, std=0.01))

    def maps(self, features: Features) -> Tensor:
        """Scores of each part inside and outside each class, and moves: B×h×w×(k²·(2·(C+1)+4))."""
        return self.score_maps(self.conv(features[self.stride]).permute(0, 2, 3, 1))

    def regions(self, maps: Tensor, boxes: list[Tensor]) -> RegionOutputs:
        """Outputs for N regions: the larger of a cell's scores is for the class (FCIS §2.2)."""
        rois = convert_boxes_to_roi_format(boxes)
        cells = assemble_regions(maps, rois, self.mask_size, 1 / self.stride, self.parts)
        inside, outside = cells[:, :-4].chunk(2, dim=1)
        return RegionOutputs(
            class_logits=torch.maximum(inside, outside).mean((2, 3)),
            moves=cells[:, -4:].mean((2, 3)),
            mask_logits=(inside - outside)[:, 1:],  # the softmax of two is a sigmoid
        )

    def loss(
        self, features: Features, batch: ImageBatch, targets: list[Targets]
    ) -> dict[str, Tensor]:
        """Losses by name, of the hardest proposals (online hard example mining)."""
        proposals, losses = self._propose(features, batch, self._truths(targets))
        boxes = [torch.cat([own, t.boxes]) for own, t in zip(proposals, targets, strict=True)]
        maps = self.maps(features)
        with torch.no_grad():
            each = self.region_losses(self.regions(maps, boxes), boxes, targets).sum(1)
        parts = zip(boxes, each.split([len(own) for own in boxes]), strict=True)
        hard = [own[loss.topk(min(self.hard_samples, len(own))).indices] for own, loss in parts]
        return losses | mean_losses(self.region_losses(self.regions(maps, hard), hard, targets))
