"""Segmenters that first find boxes, then a mask in each from the features inside."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from b2inst.inference import channels_first
from b2inst.models.image_segmenter import ImageSegmenter
from b2inst.models.interfaces import BoxDetector, ImagePreprocessor, MaskHead
from b2inst.modules.mask_iou_head import MaskIoUHead
from b2inst.ops.masks import crop_masks, share_inside
from b2inst.structures import Features, Instances, RoIMasks, Targets, of_class


class TwoStageSegmenter(ImageSegmenter):
    """What basis-based models are compared with in Table 4.

    No part knows the others: the detector gives boxes, the mask head a mask in each, the scoring
    head (where there is one) rates them.

    Args:
        backbone: images to features by stride.
        preprocessor, detector, mask_head: see ``b2inst.models.interfaces``.
        scoring_head: without one, the ranking score is the classification score.
    """

    def __init__(
        self,
        *,
        preprocessor: ImagePreprocessor,
        backbone: nn.Module,
        detector: BoxDetector,
        mask_head: MaskHead,
        scoring_head: MaskIoUHead | None = None,
    ) -> None:
        super().__init__(preprocessor=preprocessor, backbone=backbone)
        self.detector = detector
        self.mask_head = mask_head
        self.scoring_head = scoring_head

    @property
    def _limited(self) -> BoxDetector:
        return self.detector

    def forward(self, images: list[Tensor], targets: list[Targets]) -> dict[str, Tensor]:
        """Losses by name; see ``ImageSegmenter``."""
        batch = self.preprocessor(images)
        features: Features = self.backbone(batch.images)
        losses, samples = self.detector.loss(features, batch, targets)
        labels = torch.cat([s.labels for s in samples])
        pairs = list(zip(targets, samples, strict=True))
        size = self.mask_head.roi_size
        truths = torch.cat(
            [crop_masks(t.masks, s.boxes, size, index=s.target_index) for t, s in pairs]
        )
        outputs = self.mask_head(features, [s.boxes for s in samples])
        losses |= self.mask_head.loss(outputs, labels, truths)
        if self.scoring_head is not None:
            inside = [share_inside(t.masks, s.boxes, s.target_index) for t, s in pairs]
            losses |= self.scoring_head.loss(outputs, labels, truths, torch.cat(inside))
        return losses

    @torch.inference_mode()
    def segment(
        self, images: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """What ``predict`` does once images are resized; see ``ImageSegmenter``."""
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
            outputs = self.mask_head(features, boxes)
            masks = RoIMasks(outputs.of_class(labels).float().sigmoid(), torch.cat(boxes))
            qualities: dict[str, Tensor] = {}
            if self.scoring_head is not None:
                ious = self.scoring_head(outputs.pooled, masks.probabilities)
                qualities = {"iou": of_class(ious, labels).float().clamp(0, 1)}
        results = []
        start = 0
        for i, detection in enumerate(detections):
            rows = slice(start, start + len(detection))
            start += len(detection)
            instances, _ = self._finish(
                detection,
                masks[rows],
                {name: value[rows] for name, value in qualities.items()},
                network_size=batch.sizes[i],
                image_size=sizes[i],
            )
            results.append(instances)
        return results
