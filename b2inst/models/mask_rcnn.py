"""Mask R-CNN (He et al., ICCV 2017) and its descendants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from b2inst.models.building import PartSeeds, ResizingFamily
from b2inst.models.two_stage import TwoStageSegmenter
from b2inst.modules.backbones import RCNNFPN
from b2inst.modules.faster_rcnn import FasterRCNN
from b2inst.modules.layers import RoIPooler, mlp
from b2inst.modules.mask_heads import BoundaryPreservingHead, MaskIoUHead, RoIMaskHead

GROUP_NORM = partial(nn.GroupNorm, 8)


def _normalised_mlp(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), *mlp(inputs, hidden, norm=nn.LayerNorm))


#: Arguments of the parts, as published.
FULL_RCNN: dict[str, Any] = {
    "box_head": TwoMLPHead,
    # P6 then has cells of exactly its stride, which anchors go by.
    "preprocessor": {"size_divisor": 64},
    "pooler": {},
    "detector": {"hidden": 1024, "anchor_sizes": (32, 64, 128, 256, 512)},
    "mask_head": {},
    "scoring_head": {},
}
#: Of a narrow model that learns from scratch on a CPU, with small anchors, fewer proposals and
#: samples, one point in a bin when pooling, and normalised heads, which tolerate a large learning
#: rate.
SMALL_RCNN: dict[str, Any] = {
    "box_head": _normalised_mlp,
    "preprocessor": {},
    "pooler": {"samples": 1},
    "detector": {
        "hidden": 64,
        "anchor_sizes": (8, 16, 32, 64),
        "train_proposals": (200, 100),
        "test_proposals": (200, 100),
        "samples": 48,
    },
    "mask_head": {"channels": 32, "norm": GROUP_NORM},
    "scoring_head": {
        "channels": 32,
        "hidden": 64,
        "norm": GROUP_NORM,
        "norm_hidden": nn.LayerNorm,
    },
}


@dataclass(frozen=True, kw_only=True)
class MaskRCNN(ResizingFamily):
    """Mask R-CNN; with ``scoring`` Mask Scoring R-CNN.

    Args:
        mask_head: Builds the mask head, such as ``BoundaryPreservingHead`` for BMask R-CNN, from
            the arguments of ``RoIMaskHead``.
        scoring: Predict the IoU of masks and rank by it too.
        refined_samples: See ``FasterRCNN``.
    """

    mask_head: Callable[..., nn.Module] = RoIMaskHead
    scoring: bool = False
    refined_samples: bool = False

    def build(self, num_classes: int) -> TwoStageSegmenter:
        """A model with fresh weights."""
        seeds = PartSeeds()
        parts = FULL_RCNN if self.backbone.startswith("resnet") else SMALL_RCNN
        with seeds.part("backbone"):
            backbone = self._build_backbone(RCNNFPN, stride_in_1x1=self.msra)
        shared = {"in_channels": backbone.out_channels, "num_classes": num_classes}
        pooler = partial(RoIPooler, strides=(4, 8, 16, 32), **parts["pooler"])
        inputs, hidden = backbone.out_channels * 7 * 7, parts["detector"]["hidden"]
        with seeds.part("detector"):
            box_head = parts["box_head"](inputs, hidden)
            detector = FasterRCNN(
                **shared,
                strides=backbone.strides,
                box_pooler=pooler(size=7),
                box_head=box_head,
                refined_samples=self.refined_samples,
                **parts["detector"],
            )
        with seeds.part("mask_head"):
            mask_head = self.mask_head(**shared, pooler=pooler(size=14), **parts["mask_head"])
        scoring_head = None
        if self.scoring:
            if not isinstance(mask_head, RoIMaskHead | BoundaryPreservingHead):
                raise ValueError(f"scoring: masks of {type(mask_head).__name__} cannot be rated")
            with seeds.part("scoring_head"):
                scoring_head = MaskIoUHead(**shared, **parts["scoring_head"])
        return TwoStageSegmenter(
            preprocessor=self._preprocessor(**parts["preprocessor"]),
            backbone=backbone,
            detector=detector,
            mask_head=mask_head,
            scoring_head=scoring_head,
        )
