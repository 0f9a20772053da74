"""Segmenters that first detect boxes, then predict a mask in each from the features inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from b2inst.inference import channels_first
from b2inst.models.interfaces import Detector
from b2inst.models.segmenter import Segmenter
from b2inst.modules.mask_heads import MaskIoUHead
from b2inst.modules.preprocessor import Preprocessor
from b2inst.ops.masks import crop_masks, share_inside
from b2inst.structures import Features, ImageBatch, Instances, RoIMasks, Targets, of_class


class TwoStageSegmenter(Segmenter):
    """The models that Table 4 compares basis-based ones with.

    No part knows the others: the detector predicts boxes, the mask head a mask in each, the scoring
    head (if any) rates them.

    Args:
        preprocessor, backbone: see ``Segmenter``.
        detector: predicts boxes and classes, as ``FasterRCNN`` does.
        mask_head: predicts a mask of each class in a box, as ``RoIMaskHead`` does.
        scoring_head: without one, the ranking score is the classification score.
    """

    def __init__(
        self,
        *,
        preprocessor: Preprocessor,
        backbone: nn.Module,
        detector: nn.Module,
        mask_head: nn.Module,
        scoring_head: MaskIoUHead | None = None,
    ) -> None:
        super().__init__(preprocessor=preprocessor, backbone=backbone)
        self.detector: Any = detector
        self.mask_head: Any = mask_head
        self.scoring_head = scoring_head

    @property
    def _detector(self) -> Detector:
        detector: Detector = self.detector
        return detector

    def forward(self, images: list[Tensor], targets: list[Targets]) -> dict[str, Tensor]:
        """Losses by name; see ``Segmenter``."""
        batch = self.preprocessor(images)
        features: Features = self.backbone(batch.images)
        losses, samples = self.detector.loss(features, batch, targets)
        labels = torch.cat([s.labels for s in samples])
        pairs = list(zip(targets, samples, strict=True))
        size = self.mask_head.roi_size
        truths = torch.cat(
            [crop_masks(t.masks, s.boxes, size, index=s.target_index) for t, s in pairs]
        )
        outputs = self._masks(features, [s.boxes for s in samples], batch)
        losses |= self.mask_head.loss(outputs, labels, truths)
        if self.scoring_head is not None:
            inside = [share_inside(t.masks, s.boxes, s.target_index) for t, s in pairs]
            losses |= self.scoring_head.loss(outputs, labels, truths, torch.cat(inside))
        return losses

    def _masks(self, features: Features, boxes: list[Tensor], batch: ImageBatch) -> Any:
        """The mask head's outputs."""
        return self.mask_head(features, boxes)

    @torch.inference_mode()
    def segment(
        self, images: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """``predict`` for callers who resize images themselves; see ``Segmenter``."""
        network = self._network()
        if not images:
            return []
        batch = self.preprocessor(list(images))
        with network:
            features: Features = self.backbone(batch.images)
            features = {stride: channels_first(maps) for stride, maps in features.items()}
            detections = self.detector.detect(features, batch)
            boxes = [d.boxes for d in detections]
            labels = torch.cat([d.labels for d in detections])
            outputs = self._masks(features, boxes, batch)
            masks = RoIMasks(outputs.of_class(labels).float().sigmoid(), torch.cat(boxes))
            qualities: dict[str, Tensor] = {}
            if self.scoring_head is not None:
                ious = self.scoring_head(outputs.pooled, masks.probabilities)
                qualities = {"iou": of_class(ious, labels).float().clamp(0, 1)}
        instances = self._instances(
            detections, masks, qualities, network_sizes=batch.sizes, image_sizes=sizes
        )
        return [ranked for ranked, _ in instances]
