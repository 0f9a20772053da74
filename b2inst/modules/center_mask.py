"""Parts of CenterMask (Lee & Park, CVPR 2020): masks in the boxes of FCOS."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from b2inst.modules.faster_rcnn import attribute_of
from b2inst.modules.fcos_head import DenseOutputs, FCOSHead, LevelScale
from b2inst.modules.layers import initialise
from b2inst.modules.mask_heads import KAIMING, MaskIoUHead, RoIMaskHead
from b2inst.structures import Detections, Features, ImageBatch, RoIOutputs, RoISamples, Targets


class CenterMaskHead(FCOSHead):
    """FCOS with a learned factor for each level's box distances, and another threshold.

    Candidates are the (position, class) pairs whose class probability alone is above it.
    """

    level_scale = LevelScale
    max_detections = 50

    def candidate_scores(self, outputs: DenseOutputs) -> Tensor:
        """Class probability times centerness, B×S×C; 0 where the former is up to the threshold."""
        probability = outputs.class_logits.sigmoid()
        product = probability * outputs.centerness_logits.sigmoid()[..., None]
        return product * (probability > self.score_threshold)


class FCOSDetector(nn.Module):
    """FCOS as the detector of a two-stage model; see ``FasterRCNN`` for its methods.

    Args:
        samples: Most boxes per image to train masks in.
        head: Arguments of ``CenterMaskHead``.
    """

    train_detections = 100  #: per image, among which boxes to train masks in are looked for
    max_detections = attribute_of("head", "max_detections")
    score_threshold = attribute_of("head", "score_threshold")

    def __init__(self, *, samples: int = 128, **head: Any) -> None:
        super().__init__()
        self.head = CenterMaskHead(num_coefficients=0, **head)
        self.samples = samples

    def loss(
        self, features: Features, batch: ImageBatch, targets: list[Targets]
    ) -> tuple[dict[str, Tensor], list[RoISamples]]:
        outputs = self.head(features)
        losses, _ = self.head.loss(outputs, targets)
        with torch.no_grad():
            found = self.head.detect(outputs, self.train_detections)
        pairs = zip(found, targets, strict=True)
        return losses, [boxes_on_objects(d.boxes, t, self.samples) for d, t in pairs]

    def detect(self, features: Features, batch: ImageBatch) -> list[Detections]:
        return self.head.detect(self.head(features))


def boxes_on_objects(boxes: Tensor, targets: Targets, most: int) -> RoISamples:
    """The objects' own boxes, and detections (N×4) that overlap one by half or more (IoU).

    If there are more than ``most``, so many are drawn at random.
    """
    boxes = torch.cat([boxes, targets.boxes])
    if not len(targets):
        index = torch.zeros(len(boxes), dtype=torch.int64, device=boxes.device)
        return RoISamples(boxes, index, index)[:0]
    overlap, index = box_iou(boxes, targets.boxes).max(1)
    chosen = (overlap >= 0.5).nonzero()[:, 0]
    if len(chosen) > most:
        chosen = chosen[torch.randperm(len(chosen), device=boxes.device)[:most]]
    return RoISamples(boxes, targets.labels[index], index)[chosen]


def adaptive_levels(
    boxes: list[Tensor], sizes: Sequence[tuple[int, int]], strides: Sequence[int]
) -> Tensor:
    """Which level each box reads, by its share of the image (CenterMask Eq. 2): N int64.

    The last one for boxes of more than half the image, the one before for those of more than a
    quarter, and so on. Sizes are each image's (height, width), not padded.
    """
    shares = [
        (own[:, 2:] - own[:, :2]).clamp(min=0).prod(1) / (height * width)
        for own, (height, width) in zip(boxes, sizes, strict=True)
    ]
    last = len(strides) - 1
    return (last + torch.cat(shares).log2()).ceil().clamp(0, last).long()


class SpatialAttention(nn.Module):
    """Weights the cells of maps by the mean and maximum of their channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1, bias=False)
        initialise(self.conv, KAIMING)

    def forward(self, maps: Tensor) -> Tensor:
        """N×C×h×w, times a weight in (0, 1) for each cell."""
        pooled = torch.cat([maps.mean(1, keepdim=True), maps.amax(1, keepdim=True)], dim=1)
        return maps * self.conv(pooled).sigmoid()


class SpatialAttentionMaskHead(RoIMaskHead):
    """``RoIMaskHead`` with attention after the convolutions and levels by adaptive size."""

    def __init__(self, **head: Any) -> None:
        super().__init__(**head)
        self.attention = SpatialAttention()
        initialise(self.predictor.mask_fcn_logits, partial(nn.init.normal_, std=0.001))

    def forward(  # type: ignore[override]
        self, features: Features, boxes: list[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> RoIOutputs:
        """Masks of N boxes, given per image; sizes are each image's (height, width), not padded."""
        levels = adaptive_levels(boxes, sizes, self.pooler.strides)
        pooled = self.pooler(features, boxes, levels)
        return RoIOutputs(pooled, self.predictor(self.attention(self.convs(pooled))))


class CenterMaskIoUHead(MaskIoUHead):
    """``MaskIoUHead`` with other initial weights."""

    def __init__(self, **head: Any) -> None:
        super().__init__(**head)
        initialise(self.regress[:-1], KAIMING)
