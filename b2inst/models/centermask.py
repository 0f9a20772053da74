"""CenterMask (Lee & Park, CVPR 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from b2inst.models.building import PartSeeds, ResizingFamily
from b2inst.models.mask_rcnn import FULL_RCNN, SMALL_RCNN
from b2inst.models.two_stage import TwoStageSegmenter
from b2inst.modules.backbones import ResNetFPN
from b2inst.modules.center_mask import (
    CenterMaskHead,
    CenterMaskIoUHead,
    FCOSDetector,
    SpatialAttentionMaskHead,
)
from b2inst.modules.fcos_targets import sizes_of_interest
from b2inst.modules.layers import RoIPooler
from b2inst.structures import Features, ImageBatch


class CenterMaskSegmenter(TwoStageSegmenter):
    """A two-stage model whose mask head goes by the size of the image."""

    def _masks(self, features: Features, boxes: list[Tensor], batch: ImageBatch) -> Any:
        return self.mask_head(features, boxes, batch.sizes)


@dataclass(frozen=True, kw_only=True)
class CenterMask(ResizingFamily):
    """CenterMask, with the mask-IoU branch of its published R-50 and R-101 models.

    Args:
        head_strides: Levels that instances are detected on (default: all).
        tower_convs: Convolutions in each of the detector's two towers.
    """

    head_strides: Sequence[int] = ()
    tower_convs: int = 4

    def build(self, num_classes: int) -> CenterMaskSegmenter:
        """A model with fresh weights."""
        seeds = PartSeeds()
        full = self.backbone.startswith("resnet")
        with seeds.part("backbone"):
            backbone = self._build_backbone(ResNetFPN, stride_in_1x1=self.msra)
        shared = {"in_channels": backbone.out_channels, "num_classes": num_classes}
        parts = FULL_RCNN if full else SMALL_RCNN
        strides = tuple(self.head_strides or backbone.strides)
        with seeds.part("detector"):
            detector = FCOSDetector(
                CenterMaskHead(
                    **shared,
                    num_coefficients=0,
                    strides=strides,
                    sizes_of_interest=sizes_of_interest(strides, 8 if full else 4),
                    num_convs=self.tower_convs,
                ),
                samples=128 if full else 12,  # as many as the narrow Faster R-CNN's
            )
        pooler = RoIPooler(strides=backbone.strides[:3], size=14, samples=0 if full else 1)
        with seeds.part("mask_head"):
            masks = SpatialAttentionMaskHead(**shared, pooler=pooler, **parts["mask_head"])
        with seeds.part("scoring_head"):
            scorer = CenterMaskIoUHead(**shared, **parts["scoring_head"])
        return CenterMaskSegmenter(
            preprocessor=self._preprocessor(),
            backbone=backbone,
            detector=detector,
            mask_head=masks,
            scoring_head=scorer,
        )
