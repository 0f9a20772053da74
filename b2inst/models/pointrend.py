"""PointRend (Kirillov et al., CVPR 2020), a mask head of Mask R-CNN."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from b2inst.models.building import PartSeeds, ResizingFamily
from b2inst.models.mask_rcnn import FULL_RCNN, SMALL_RCNN
from b2inst.models.two_stage import TwoStageSegmenter
from b2inst.modules.backbones import RCNNFPN
from b2inst.modules.faster_rcnn import FasterRCNN
from b2inst.modules.layers import RoIPooler
from b2inst.modules.point_rend import PointRendHead

_FULL = FULL_RCNN | {
    "pooler": {"samples": 0},
    "detector": FULL_RCNN["detector"] | {"train_proposals": (2000, 1000)},
}
#: Of the narrow model: masks of fewer cells, refined at fewer points.
_SMALL: dict[str, Any] = SMALL_RCNN | {
    "mask_head": {
        "channels": 32,
        "hidden": 64,
        "norm": partial(nn.GroupNorm, 8),
        "norm_hidden": nn.LayerNorm,
        "train_points": 100,
        "test_points": 196,
        "roi_size": 56,
    },
}


@dataclass(frozen=True, kw_only=True)
class PointRend(ResizingFamily):
    """Mask R-CNN with PointRend's mask head, as detectron2 has it."""

    def build(self, num_classes: int) -> TwoStageSegmenter:
        """A model with fresh weights."""
        seeds = PartSeeds()
        parts = _FULL if self.backbone.startswith("resnet") else _SMALL
        with seeds.part("backbone"):
            backbone = self._build_backbone(RCNNFPN, stride_in_1x1=self.msra)
        shared = {"in_channels": backbone.out_channels, "num_classes": num_classes}
        pooler = RoIPooler(strides=(4, 8, 16, 32), size=7, **parts["pooler"])
        inputs, hidden = backbone.out_channels * 7 * 7, parts["detector"]["hidden"]
        with seeds.part("detector"):
            detector = FasterRCNN(
                **shared,
                strides=backbone.strides,
                box_pooler=pooler,
                box_head=parts["box_head"](inputs, hidden),
                refined_samples=True,
                detectron2=True,
                **parts["detector"],
            )
        with seeds.part("mask_head"):
            mask_head = PointRendHead(**shared, stride=backbone.strides[0], **parts["mask_head"])
        return TwoStageSegmenter(
            preprocessor=self._preprocessor(),
            backbone=backbone,
            detector=detector,
            mask_head=mask_head,
        )
