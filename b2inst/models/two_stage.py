"""Segmenters that first detect boxes, then predict a mask in each from the features inside."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from b2inst.models.segmenter import Prediction, Segmenter
from b2inst.modules.mask_heads import MaskIoUHead
from b2inst.modules.mask_voting import View
from b2inst.modules.preprocessor import Preprocessor
from b2inst.structures import Features, ImageBatch, RoIMasks, Targets, WindowMasks, of_class


class TwoStageSegmenter(Segmenter):
    """The models that Table 4 compares basis-based ones with.

    Args:
        preprocessor, backbone: See ``Segmenter``.
        detector: Predicts boxes and classes, such as ``FasterRCNN``.
        mask_head: Predicts a mask of each class in a box; see ``b2inst.modules.mask_heads``.
        scoring_head: Without one, the ranking score is the classification score.
    """

    _detector = property(attrgetter("detector"))

    def __init__(
        self,
        *,
        preprocessor: Preprocessor,
        backbone: nn.Module,
        detector: Any,
        mask_head: Any = None,
        scoring_head: MaskIoUHead | None = None,
    ) -> None:
        super().__init__(preprocessor=preprocessor, backbone=backbone)
        self.detector: Any = detector
        self.mask_head = mask_head
        self.scoring_head = scoring_head

    def forward(self, images: list[Tensor], targets: list[Targets]) -> dict[str, Tensor]:
        batch = self.preprocessor(images)
        features: Features = self.backbone(batch.images)
        losses, samples = self.detector.loss(features, batch, targets)
        outputs = self._masks(features, [s.boxes for s in samples], batch)
        losses |= self.mask_head.loss(outputs, samples, targets)
        if self.scoring_head is not None:
            losses |= self.scoring_head.loss(outputs, samples, targets)
        return losses

    def _masks(self, features: Features, boxes: list[Tensor], batch: ImageBatch) -> Any:
        return self.mask_head(features, boxes)

    def _predict(self, batch: ImageBatch) -> Prediction:
        with self._network():
            features: Features = self.backbone(batch.images)
            detections = self._candidates(self.detector.detect(features, batch))
            boxes = [d.boxes for d in detections]
            labels = torch.cat([d.labels for d in detections])
            outputs = self._masks(features, boxes, batch)
            masks = RoIMasks(outputs.of_class(labels).float().sigmoid(), torch.cat(boxes))
            qualities: dict[str, Tensor] = {}
            if self.scoring_head is not None:
                ious = self.scoring_head(outputs.pooled, masks.probabilities)
                qualities = {"iou": of_class(ious, labels).float().clamp(0, 1)}
        return Prediction(detections, masks, qualities)


class CenterMaskSegmenter(TwoStageSegmenter):
    """A two-stage model whose mask head goes by the size of the image."""

    def _masks(self, features: Features, boxes: list[Tensor], batch: ImageBatch) -> Any:
        return self.mask_head(features, boxes, batch.sizes)


class TensorMaskSegmenter(TwoStageSegmenter):
    """A model whose masks are of windows, independently of the boxes."""

    def _predict(self, batch: ImageBatch) -> Prediction:
        with self._network():
            features = self.backbone(batch.images)
            detections = self._candidates(self.detector.detect(features, batch))
            windows = [found.coefficients for found in detections]
            groups = self.mask_head(features, windows)
        masks: dict[int, Tensor] = {}
        for rows, logits in groups:
            masks |= dict(zip(rows.tolist(), logits.sigmoid(), strict=True))
        in_order = WindowMasks([masks[row] for row in sorted(masks)], torch.cat(windows))
        return Prediction(detections, in_order, {})


class VotingSegmenter(TwoStageSegmenter):
    """A two-stage model whose detector predicts the masks as well."""

    #: At inference regions are predicted from images at these scales, times the network's input,
    #: and their mirror images; empty for the network's input alone.
    scales: Sequence[float] = ()

    def forward(self, images: list[Tensor], targets: list[Targets]) -> dict[str, Tensor]:
        batch = self.preprocessor(images)
        return dict(self.detector.loss(self.backbone(batch.images), batch, targets))

    def _predict(self, batch: ImageBatch) -> Prediction:
        with self._network():
            views = [self._view(batch.images, scale) for scale in self.scales]
            detections = self.detector.detect(self.backbone(batch.images), batch, views)
        probabilities = torch.cat([d.coefficients for d in detections])
        size = round(probabilities.shape[1] ** 0.5)
        boxes = torch.cat([d.boxes for d in detections])
        return Prediction(detections, RoIMasks(probabilities.unflatten(1, (size, size)), boxes), {})

    def _view(self, images: Tensor, scale: float) -> View:
        images = F.interpolate(images, scale_factor=scale, mode="bilinear", antialias=True)
        height, width = (-side % self.preprocessor.size_divisor for side in images.shape[2:])
        images = F.pad(images, (0, width, 0, height))
        both = (self.detector.maps(self.backbone(image)) for image in (images, images.flip(3)))
        return View(scale, images.shape[3], *both)
