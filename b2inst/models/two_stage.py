"""Segmenters that first detect boxes, then predict a mask in each from the features inside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from b2inst.models.segmenter import Prediction, Segmenter
from b2inst.modules.mask_heads import MaskIoUHead
from b2inst.modules.preprocessor import Preprocessor
from b2inst.structures import Features, ImageBatch, RoIMasks, Targets, of_class


class TwoStageSegmenter(Segmenter):
    """The models that Table 4 compares basis-based ones with.

    No part knows the others: the detector predicts boxes, the mask head a mask in each, the scoring
    head (if any) rates them.

    Args:
        preprocessor, backbone: See ``Segmenter``.
        detector: Predicts boxes and classes: ``FasterRCNN``, ``FCOSDetector``, ``WindowDetector``.
        mask_head: Predicts a mask of each class in a box; see ``b2inst.modules.mask_heads``.
        scoring_head: Without one, the ranking score is the classification score.
    """

    def __init__(
        self,
        *,
        preprocessor: Preprocessor,
        backbone: nn.Module,
        detector: Any,
        mask_head: Any,
        scoring_head: MaskIoUHead | None = None,
    ) -> None:
        super().__init__(preprocessor=preprocessor, backbone=backbone)
        self.detector: Any = detector
        self.mask_head = mask_head
        self.scoring_head = scoring_head

    @property
    def _detector(self) -> Any:
        return self.detector

    def forward(self, images: list[Tensor], targets: list[Targets]) -> dict[str, Tensor]:
        """Losses by name; see ``Segmenter``."""
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
            detections = self.detector.detect(features, batch)
            boxes = [d.boxes for d in detections]
            labels = torch.cat([d.labels for d in detections])
            outputs = self._masks(features, boxes, batch)
            masks = RoIMasks(outputs.of_class(labels).float().sigmoid(), torch.cat(boxes))
            qualities: dict[str, Tensor] = {}
            if self.scoring_head is not None:
                ious = self.scoring_head(outputs.pooled, masks.probabilities)
                qualities = {"iou": of_class(ious, labels).float().clamp(0, 1)}
        return Prediction(detections, masks, qualities)
