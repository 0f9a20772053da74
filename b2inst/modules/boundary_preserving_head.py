"""The boundary-preserving mask head of BMask R-CNN (Cheng et al., ECCV 2020)."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from b2inst.modules.roi_mask_head import class_mask_loss
from b2inst.modules.roi_pooler import RoIPooler
from b2inst.ops.boundary import laplacian_boundary
from b2inst.ops.distributed import mean_weight
from b2inst.structures import Features, RoIOutputs, of_class


class BoundaryPreservingHead(nn.Module):
    """Masks and boundaries of the same boxes, with features fused both ways.

    The boundary branch reads the finest level, whatever the size of a box, at twice the resolution.
    Inference uses the masks only.

    Args:
        in_channels: channels of the features.
        num_classes: C, of masks and of boundaries.
        pooler: pools the features in a box to half a mask's size, for the mask branch.
        channels: width of all convolutions.
        norm: builds a norm after each 3×3 convolution from its width; published without.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        pooler: RoIPooler,
        channels: int = 256,
        norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.pooler = pooler
        self.roi_size = 2 * pooler.size  #: R, side of a mask in cells
        self.finest = RoIPooler(
            strides=pooler.strides[:1], size=self.roi_size, samples=pooler.samples
        )
        self.mask_convs = MaskRCNNHeads(in_channels, [channels] * 4, dilation=1, norm_layer=norm)
        self.downsample = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1)
        self.mask_to_boundary = nn.Conv2d(channels, channels, 1)
        self.boundary_convs = MaskRCNNHeads(channels, [channels] * 2, dilation=1, norm_layer=norm)
        self.boundary_to_mask = nn.Conv2d(channels, channels, 1)
        self.mask_fusion = MaskRCNNHeads(channels, [channels], dilation=1, norm_layer=norm)
        self.mask_predictor = MaskRCNNPredictor(channels, channels, num_classes)
        self.boundary_predictor = MaskRCNNPredictor(channels, channels, num_classes)
        for conv in (self.downsample, self.mask_to_boundary, self.boundary_to_mask):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        for predictor in (self.mask_predictor, self.boundary_predictor):
            # As in detectron2: hardly any mask at first, whatever the features.
            nn.init.normal_(predictor.mask_fcn_logits.weight, std=0.001)
            nn.init.zeros_(predictor.mask_fcn_logits.bias)

    def forward(self, features: Features, boxes: list[Tensor]) -> RoIOutputs:
        """Masks and boundaries of N boxes, given per image in network-input pixels."""
        pooled = self.pooler(features, boxes)
        mask = self.mask_convs(pooled)
        boundary = F.relu(self.downsample(self.finest(features, boxes)))
        boundary = boundary + F.relu(self.mask_to_boundary(mask))
        boundary = self.boundary_convs(boundary)
        mask = self.mask_fusion(F.relu(self.boundary_to_mask(boundary)) + mask)
        return RoIOutputs(pooled, self.mask_predictor(mask), self.boundary_predictor(boundary))

    def loss(self, outputs: RoIOutputs, labels: Tensor, truths: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the masks of N labels; cross-entropy and Dice of the boundaries.

        Truths are N×R×R, 0 or 1; objects have a boundary where the edge of the box cuts them.
        """
        assert outputs.boundary_logits is not None
        return {
            "loss_mask": class_mask_loss(outputs, labels, truths),
            "loss_boundary": boundary_loss(outputs.boundary_logits, labels, truths),
        }


def boundary_loss(logits: Tensor, labels: Tensor, truths: Tensor) -> Tensor:
    """Mean cross-entropy over all cells plus the mean over boxes of 1 - Dice; 0 without boxes.

    Dice is without squares and smoothed by 1, unlike ``losses.dice_loss`` (BMask R-CNN §3.3).
    """
    weight = mean_weight(labels.new_tensor(len(labels)))
    if not len(labels):
        return logits.float().sum()
    own = of_class(logits, labels).flatten(1)
    boundary = laplacian_boundary(truths, frame="constant").float().flatten(1)
    p = own.sigmoid()
    dice = 1 - (2 * (p * boundary).sum(1) + 1) / (p.sum(1) + boundary.sum(1) + 1)
    return weight * (F.binary_cross_entropy_with_logits(own, boundary) + dice.mean())
