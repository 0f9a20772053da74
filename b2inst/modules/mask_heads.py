"""Heads of two-stage models: masks in boxes, and their scores.

A mask head is called with features and the boxes of each image, in network-input pixels. It returns
``RoIOutputs``, or an object with the same ``of_class``. Its ``loss`` gets them with the samples of
the detector that the boxes are from, and the targets of each image.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from b2inst.losses import mask_bce
from b2inst.modules.layers import NormLayer, RoIPooler, initialise, mlp
from b2inst.ops.boundary import laplacian_boundary
from b2inst.ops.distributed import even_share, mean_weight
from b2inst.ops.masks import crop_masks, share_inside
from b2inst.structures import Features, RoIOutputs, RoISamples, Targets, of_class

KAIMING = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")


class RoIMaskHead(nn.Module):
    """Four convolutions on the features in a box, upsampled, to a mask of each class.

    Args:
        pooler: Pools the features in a box to half a mask's size.
        norm: Builds a norm after each convolution; published without.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        pooler: RoIPooler,
        channels: int = 256,
        norm: NormLayer | None = None,
    ) -> None:
        super().__init__()
        self.pooler = pooler
        self.convs = MaskRCNNHeads(in_channels, [channels] * 4, dilation=1, norm_layer=norm)
        self.predictor = MaskRCNNPredictor(channels, channels, num_classes)

    def forward(self, features: Features, boxes: list[Tensor]) -> RoIOutputs:
        pooled = self.pooler(features, boxes)
        return RoIOutputs(pooled, self.predictor(self.convs(pooled)))

    def loss(
        self, outputs: RoIOutputs, samples: list[RoISamples], targets: list[Targets]
    ) -> dict[str, Tensor]:
        """Cross-entropy of the masks of the samples' classes."""
        labels, truths = sample_masks(outputs.logits, samples, targets)
        return {"loss_mask": class_mask_loss(outputs.logits, labels, truths)}


def sample_masks(
    logits: Tensor, samples: list[RoISamples], targets: list[Targets]
) -> tuple[Tensor, Tensor]:
    """Labels of N samples, and their true masks at the size of the logits, N×R×R, 0 or 1."""
    size = logits.shape[-1]
    masks = [
        crop_masks(t.masks, s.boxes, size, index=s.target_index)
        for t, s in zip(targets, samples, strict=True)
    ]
    return torch.cat([s.labels for s in samples]), torch.cat(masks)


def class_mask_loss(logits: Tensor, labels: Tensor, truths: Tensor) -> Tensor:
    """Mean cross-entropy over all cells of the masks of N labels; 0 without any."""
    weight = mean_weight(labels.new_tensor(len(labels)))
    if not len(labels):
        return logits.float().sum()  # 0, with a gradient for every parameter
    return weight * mask_bce(of_class(logits, labels), truths).mean()


class BoundaryPreservingHead(nn.Module):
    """Masks and boundaries of the same boxes, with features fused both ways (BMask R-CNN).

    The boundary branch reads the finest level, whatever the size of a box, at twice the resolution.
    Inference uses the masks only. The arguments are those of ``RoIMaskHead``.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        pooler: RoIPooler,
        channels: int = 256,
        norm: NormLayer | None = None,
    ) -> None:
        super().__init__()
        self.pooler = pooler
        self.finest = RoIPooler(
            strides=pooler.strides[:1], size=2 * pooler.size, samples=pooler.samples
        )
        convs = partial(MaskRCNNHeads, dilation=1, norm_layer=norm)
        self.mask_convs = convs(in_channels, [channels] * 4)
        self.downsample = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1)
        self.mask_to_boundary = nn.Conv2d(channels, channels, 1)
        self.boundary_convs = convs(channels, [channels] * 2)
        self.boundary_to_mask = nn.Conv2d(channels, channels, 1)
        self.mask_fusion = convs(channels, [channels])
        self.mask_predictor = MaskRCNNPredictor(channels, channels, num_classes)
        self.boundary_predictor = MaskRCNNPredictor(channels, channels, num_classes)
        for conv in (self.downsample, self.mask_to_boundary, self.boundary_to_mask):
            initialise(conv, KAIMING)
        for predictor in (self.mask_predictor, self.boundary_predictor):
            # As in detectron2: hardly any mask at first, whatever the features.
            initialise(predictor.mask_fcn_logits, partial(nn.init.normal_, std=0.001))

    def forward(self, features: Features, boxes: list[Tensor]) -> RoIOutputs:
        pooled = self.pooler(features, boxes)
        mask = self.mask_convs(pooled)
        boundary = F.relu(self.downsample(self.finest(features, boxes)))
        boundary = boundary + F.relu(self.mask_to_boundary(mask))
        boundary = self.boundary_convs(boundary)
        mask = self.mask_fusion(F.relu(self.boundary_to_mask(boundary)) + mask)
        return RoIOutputs(pooled, self.mask_predictor(mask), self.boundary_predictor(boundary))

    def loss(
        self, outputs: RoIOutputs, samples: list[RoISamples], targets: list[Targets]
    ) -> dict[str, Tensor]:
        """Cross-entropy of the masks; cross-entropy and Dice of boundaries, box edges included."""
        assert outputs.boundary_logits is not None
        labels, truths = sample_masks(outputs.logits, samples, targets)
        return {
            "loss_mask": class_mask_loss(outputs.logits, labels, truths),
            "loss_boundary": boundary_loss(outputs.boundary_logits, labels, truths),
        }


def boundary_loss(logits: Tensor, labels: Tensor, truths: Tensor) -> Tensor:
    """Mean cross-entropy plus mean of 1 - Dice, without squares and smoothed by 1; 0 without boxes.

    See BMask R-CNN §3.3.
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
    """Predicts the IoU of a mask, for each class, from it and the features it was computed from.

    Args:
        hidden: Width of the two fully connected layers.
        norm: Builds a norm after each convolution, and then layer norms follow the others;
            published without.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        channels: int = 256,
        hidden: int = 1024,
        norm: NormLayer | None = None,
    ) -> None:
        super().__init__()
        self.convs = MaskRCNNHeads(in_channels + 1, [channels] * 4, dilation=1, norm_layer=norm)
        self.convs[-1][0].stride = (2, 2)
        inputs = channels * 7**2  # of 14×14 pooled features, once halved
        norm_hidden = nn.LayerNorm if norm else nn.Identity
        layers = mlp(inputs, hidden, num_classes, norm=norm_hidden)
        self.regress = nn.Sequential(nn.Flatten(), *layers)
        initialise(self.regress, partial(nn.init.kaiming_uniform_, a=1))
        nn.init.normal_(self.regress[-1].weight, std=0.01)  # type: ignore[arg-type]

    def forward(self, pooled: Tensor, masks: Tensor) -> Tensor:
        """IoU for each class, N×C, unbounded, of N×R×R probabilities and N×…×R/2×R/2 features."""
        smaller = F.max_pool2d(masks[:, None].to(pooled), 2)
        return self.regress(self.convs(torch.cat([pooled, smaller], dim=1))).float()

    def loss(
        self, outputs: RoIOutputs, samples: list[RoISamples], targets: list[Targets]
    ) -> dict[str, Tensor]:
        """Half the squared error, over the masks whose IoU is not 0.

        The gradient flows on into mask head and features, as published.
        """
        labels, truths = sample_masks(outputs.logits, samples, targets)
        pairs = zip(targets, samples, strict=True)
        inside = [share_inside(t.masks, s.boxes, s.target_index) for t, s in pairs]
        logits = outputs.of_class(labels)
        predicted = of_class(self(outputs.pooled, logits.sigmoid()), labels)
        target = mask_iou_target(logits.detach() > 0, truths, torch.cat(inside))
        counted = target > 0
        error = (predicted - target).square() * counted
        return {"loss_iou_score": 0.5 * error.sum() / even_share(counted.sum())}


def mask_iou_target(masks: Tensor, truths: Tensor, inside: Tensor) -> Tensor:
    """IoU (N) of masks with objects, N×R×R each, of which shares (N) are inside the boxes."""
    overlap = (masks * truths).sum((1, 2))
    whole = truths.sum((1, 2)) / inside.clamp(min=1e-10)
    return overlap / (masks.sum((1, 2)) + whole - overlap).clamp(min=1)
