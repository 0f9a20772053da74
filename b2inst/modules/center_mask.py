"""Parts of CenterMask (Lee & Park, CVPR 2020): masks in the boxes of FCOS."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from b2inst.modules.fcos_head import DenseOutputs, FCOSHead, LevelScale
from b2inst.modules.layers import initialise
from b2inst.modules.mask_heads import MaskIoUHead, RoIMaskHead
from b2inst.structures import Detections, Features, ImageBatch, RoIOutputs, RoISamples, Targets

_KAIMING = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")


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
        head: Predicts boxes and classes.
        train_detections: Detections per image among which boxes to train masks in are looked for.
        samples: Most boxes per image to train masks in.
    """

    def __init__(self, head: FCOSHead, *, train_detections: int = 100, samples: int = 128) -> None:
        super().__init__()
        self.head = head
        self.train_detections = train_detections
        self.samples = samples

    @property
    def max_detections(self) -> int:
        """Per image."""
        return self.head.max_detections

    @max_detections.setter
    def max_detections(self, limit: int) -> None:
        self.head.max_detections = limit

    @property
    def score_threshold(self) -> float:
        """Least class probability of a detection."""
        return self.head.score_threshold

    @score_threshold.setter
    def score_threshold(self, value: float) -> None:
        self.head.score_threshold = value

    def loss(
        self, features: Features, batch: ImageBatch, targets: list[Targets]
    ) -> tuple[dict[str, Tensor], list[RoISamples]]:
        """Losses by name, and each image's boxes whose masks are to be trained."""
        outputs = self.head(features)
        losses, _ = self.head.loss(outputs, targets)
        with torch.no_grad():
            found = self.head.detect(outputs, self.train_detections)
        pairs = zip(found, targets, strict=True)
        return losses, [boxes_on_objects(d.boxes, t, self.samples) for d, t in pairs]

    def detect(self, features: Features, batch: ImageBatch) -> list[Detections]:
        """Detections of each image after non-maximum suppression, not clipped to it."""
        return self.head.detect(self.head(features))


def boxes_on_objects(boxes: Tensor, targets: Targets, most: int) -> RoISamples:
    """The objects' own boxes, and those that overlap one by half or more (IoU).

    Args:
        boxes: N×4, detections of an image.
        targets: Of the image.
        most: If there are more, so many are drawn at random.
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
    quarter, and so on.

    Args:
        boxes: Of each image, N in total; not clipped.
        sizes: (height, width) of each image, not padded.
        strides: Of the levels, each twice the one before.
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
        initialise(self.conv, _KAIMING)

    def forward(self, maps: Tensor) -> Tensor:
        """N×C×h×w, times a weight in (0, 1) for each cell."""
        pooled = torch.cat([maps.mean(1, keepdim=True), maps.amax(1, keepdim=True)], dim=1)
        return maps * self.conv(pooled).sigmoid()


class SpatialAttentionMaskHead(RoIMaskHead):
    """Mask R-CNN's mask head, with attention after the convolutions and levels by adaptive size.

    Args:
        head: Arguments of ``RoIMaskHead``.
    """

    def __init__(self, **head: Any) -> None:
        super().__init__(**head)
        self.attention = SpatialAttention()
        initialise(self.predictor.mask_fcn_logits, partial(nn.init.normal_, std=0.001))

    def forward(  # type: ignore[override]
        self, features: Features, boxes: list[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> RoIOutputs:
        """Masks of N boxes, given per image in network-input pixels.

        Args:
            features: By stride.
            boxes: Per image, x1 y1 x2 y2.
            sizes: (height, width) of each image, not padded.
        """
        levels = adaptive_levels(boxes, sizes, self.pooler.strides)
        pooled = self.pooler(features, boxes, levels)
        return RoIOutputs(pooled, self.predictor(self.attention(self.convs(pooled))))


class CenterMaskIoUHead(MaskIoUHead):
    """Mask Scoring R-CNN's head, with other initial weights.

    Args:
        head: Arguments of ``MaskIoUHead``.
    """

    def __init__(self, **head: Any) -> None:
        super().__init__(**head)
        initialise(self.regress[:-1], _KAIMING)
