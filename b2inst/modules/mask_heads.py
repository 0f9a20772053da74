"""Heads of two-stage models: masks in boxes, and their scores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from b2inst.losses import mask_bce
from b2inst.modules.layers import RoIPooler, initialise, mlp
from b2inst.ops.boundary import laplacian_boundary
from b2inst.ops.distributed import even_share, mean_weight
from b2inst.structures import Features, RoIOutputs, of_class


class RoIMaskHead(nn.Module):
    """Four convolutions on the features in a box, upsampled, to a mask of each class.

    Args:
        in_channels: channels of the features.
        num_classes: C.
        pooler: pools the features in a box to half a mask's size.
        channels: width of the convolutions.
        norm: builds a norm after each convolution from its width; published without.
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
        self.convs = MaskRCNNHeads(in_channels, [channels] * 4, dilation=1, norm_layer=norm)
        self.predictor = MaskRCNNPredictor(channels, channels, num_classes)

    def forward(self, features: Features, boxes: list[Tensor]) -> RoIOutputs:
        """Masks of N boxes, given per image in network-input pixels."""
        pooled = self.pooler(features, boxes)
        return RoIOutputs(pooled, self.predictor(self.convs(pooled)))

    def loss(self, outputs: RoIOutputs, labels: Tensor, truths: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the masks of N labels: truths N×R×R, 0 or 1."""
        return {"loss_mask": class_mask_loss(outputs, labels, truths)}


def class_mask_loss(outputs: RoIOutputs, labels: Tensor, truths: Tensor) -> Tensor:
    """Mean cross-entropy over all cells of the masks of N labels; 0 without any."""
    weight = mean_weight(labels.new_tensor(len(labels)))
    if not len(labels):
        return outputs.logits.float().sum()  # 0, with a gradient for every parameter
    return weight * mask_bce(outputs.of_class(labels), truths).mean()


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
        kaiming = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")
        for conv in (self.downsample, self.mask_to_boundary, self.boundary_to_mask):
            initialise(conv, kaiming)
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


class MaskIoUHead(nn.Module):
    """Predicts the IoU of a mask from it and the features that it was computed from.

    Args:
        in_channels: channels of the pooled features.
        num_classes: C; there is an IoU for each.
        channels: width of the four convolutions; the last halves the resolution.
        hidden: width of the two fully connected layers.
        norm, norm_hidden: build norms, after each convolution and fully connected layer, from
            their widths; published without.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        channels: int = 256,
        hidden: int = 1024,
        norm: Callable[[int], nn.Module] | None = None,
        norm_hidden: Callable[[int], nn.Module] = lambda _: nn.Identity(),
    ) -> None:
        super().__init__()
        self.convs = MaskRCNNHeads(in_channels + 1, [channels] * 4, dilation=1, norm_layer=norm)
        self.convs[-1][0].stride = (2, 2)
        cells = 7**2  # of 14×14 pooled features, once halved
        self.regress = nn.Sequential(
            nn.Flatten(), *mlp(channels * cells, hidden, num_classes, norm=norm_hidden)
        )
        initialise(self.regress, partial(nn.init.kaiming_uniform_, a=1))
        nn.init.normal_(self.regress[-1].weight, std=0.01)  # type: ignore[arg-type]

    def forward(self, pooled: Tensor, masks: Tensor) -> Tensor:
        """IoU for each class, N×K, unbounded.

        Args:
            pooled: N×C×R/2×R/2.
            masks: N×R×R probabilities.
        """
        smaller = F.max_pool2d(masks[:, None].to(pooled), 2)
        return self.regress(self.convs(torch.cat([pooled, smaller], dim=1))).float()

    def loss(
        self, outputs: RoIOutputs, labels: Tensor, truths: Tensor, inside: Tensor
    ) -> dict[str, Tensor]:
        """Half the squared error, over the masks whose IoU is not 0.

        The gradient flows on into mask head and features, as published.

        Args:
            labels: N int64.
            truths: N×R×R, 0 or 1.
            inside: N, which part of its object lies in each box.
        """
        logits = outputs.of_class(labels)
        predicted = of_class(self(outputs.pooled, logits.sigmoid()), labels)
        target = mask_iou_target(logits.detach() > 0, truths, inside)
        counted = target > 0
        error = (predicted - target).square() * counted
        return {"loss_iou_score": 0.5 * error.sum() / even_share(counted.sum())}


def mask_iou_target(masks: Tensor, truths: Tensor, inside: Tensor) -> Tensor:
    """IoU of masks with whole objects, of which they show what lies in a box: N in [0, 1].

    Args:
        masks: N×R×R bool.
        truths: N×R×R, 0 or 1, the objects within the boxes.
        inside: N, which part of its object lies in each box.
    """
    overlap = (masks * truths).sum((1, 2))
    whole = truths.sum((1, 2)) / inside.clamp(min=1e-10)
    return overlap / (masks.sum((1, 2)) + whole - overlap).clamp(min=1)
