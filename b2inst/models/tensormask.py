"""TensorMask (Chen, Girshick, He and Dollár, ICCV 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from b2inst.models.building import PartSeeds, ResizingFamily
from b2inst.models.segmenter import Prediction
from b2inst.models.two_stage import TwoStageSegmenter
from b2inst.modules.backbones import TensorMaskFPN
from b2inst.modules.tensor_mask import TensorMaskHead, WindowDetector
from b2inst.structures import ImageBatch, WindowMasks


class TensorMaskSegmenter(TwoStageSegmenter):
    """A model whose masks are of windows, independently of the boxes."""

    def _predict(self, batch: ImageBatch) -> Prediction:
        with self._network():
            features = self.backbone(batch.images)
            detections = self.detector.detect(features, batch)
            windows = [found.coefficients for found in detections]
            groups = self.mask_head(features, windows)
        masks: dict[int, Tensor] = {}
        for rows, logits in groups:
            masks |= dict(zip(rows.tolist(), logits.sigmoid(), strict=True))
        in_order = WindowMasks([masks[row] for row in sorted(masks)], torch.cat(windows))
        return Prediction(detections, in_order, {})


#: Arguments of both heads, the detector and the mask head of a narrow model that learns from
#: scratch on a CPU, with norms and finer masks.
_SMALL: tuple[dict[str, Any], ...] = (
    {"num_convs": 2, "norm": partial(nn.GroupNorm, 8)},
    {"class_channels": 48, "box_channels": 32},
    {"channels": 24, "mask_stride": 2},
)


@dataclass(frozen=True, kw_only=True)
class TensorMask(ResizingFamily):
    """TensorMask with the tensor bipyramid, as detectron2 has it."""

    def build(self, num_classes: int) -> TensorMaskSegmenter:
        """A model with fresh weights."""
        seeds = PartSeeds()
        both, detecting, masks = ({}, {}, {}) if self.backbone.startswith("resnet") else _SMALL
        with seeds.part("backbone"):
            backbone = self._build_backbone(TensorMaskFPN, stride_in_1x1=self.msra)
        both = both | {"in_channels": backbone.out_channels, "sizes": (11, 15)}
        with seeds.part("detector"):
            detector = WindowDetector(num_classes=num_classes, **both, **detecting)
        with seeds.part("mask_head"):
            mask_head = TensorMaskHead(**both, **masks)
        return TensorMaskSegmenter(
            preprocessor=self._preprocessor(),
            backbone=backbone,
            detector=detector,
            mask_head=mask_head,
        )
