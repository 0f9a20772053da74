"""Mask R-CNN (He et al., ICCV 2017) and its descendants."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from b2inst.models.building import IMAGENET_RGB, MSRA_BGR, Family, PartSeeds
from b2inst.models.two_stage import TwoStageSegmenter
from b2inst.modules.backbones import RCNNFPN
from b2inst.modules.faster_rcnn import FasterRCNN
from b2inst.modules.layers import RoIPooler, mlp
from b2inst.modules.mask_heads import BoundaryPreservingHead, MaskIoUHead, RoIMaskHead
from b2inst.modules.preprocessor import Preprocessor

_GROUP_NORM = partial(nn.GroupNorm, 8)

#: Arguments of the parts: published, and of a narrow model that learns from scratch on a CPU, with
#: small anchors, fewer proposals and samples, one point in a bin when pooling, and normalised
#: heads, which tolerate a large learning rate.
FULL: dict[str, dict[str, Any]] = {
    # P6 then has cells of exactly its stride, which anchors go by.
    "preprocessor": {"size_divisor": 64},
    "pooler": {"strides": (4, 8, 16, 32)},
    "detector": {"hidden": 1024, "anchor_sizes": (32, 64, 128, 256, 512)},
    "mask_head": {},
    "scoring_head": {},
}
SMALL: dict[str, dict[str, Any]] = {
    "preprocessor": {},
    "pooler": {"strides": (4, 8, 16, 32), "samples": 1},
    "detector": {
        "hidden": 64,
        "norm": True,
        "anchor_sizes": (8, 16, 32, 64),
        "train_proposals": (200, 100),
        "test_proposals": (200, 100),
        "samples": 48,
    },
    "mask_head": {"channels": 32, "norm": _GROUP_NORM},
    "scoring_head": {
        "channels": 32,
        "hidden": 64,
        "norm": _GROUP_NORM,
        "norm_hidden": nn.LayerNorm,
    },
}


def build_detector(
    backbone: Any, num_classes: int, *, hidden: int, norm: bool = False, **options: Any
) -> FasterRCNN:
    """Faster R-CNN with a box head of two layers on 7×7 features.

    Args:
        backbone: what it is built for.
        hidden: width of the box head.
        norm: normalise the box head's layers.
        options: further arguments of ``FasterRCNN``.
    """
    inputs = backbone.out_channels * 7 * 7
    return FasterRCNN(
        in_channels=backbone.out_channels,
        num_classes=num_classes,
        strides=backbone.strides,
        box_head=nn.Sequential(nn.Flatten(), *mlp(inputs, hidden, norm=nn.LayerNorm))
        if norm
        else TwoMLPHead(inputs, hidden),
        hidden=hidden,
        **options,
    )


@dataclass(frozen=True, kw_only=True)
class MaskRCNN(Family):
    """Mask R-CNN; with ``scoring`` Mask Scoring R-CNN, with ``boundary_preserving`` BMask R-CNN.

    Args:
        boundary_preserving: the mask head of BMask R-CNN.
        scoring: predict the IoU of masks and rank by it too.
        refined_samples: see ``FasterRCNN``.
        msra: the layout of detectron2's MSRA weights: BGR input, stride in the 1×1 convolutions.
        shorter, longer_max: test size of images in pixels; None keeps their own.
    """

    boundary_preserving: bool = False
    scoring: bool = False
    refined_samples: bool = False
    msra: bool = False
    shorter: int | None = 800
    longer_max: int | None = 1333

    def build(self, num_classes: int) -> TwoStageSegmenter:
        """A model with fresh weights."""
        seeds = PartSeeds()
        parts = FULL if self.backbone.startswith("resnet") else SMALL
        backbone = self._build_backbone(seeds, RCNNFPN, stride_in_1x1=self.msra)
        shared = {"in_channels": backbone.out_channels, "num_classes": num_classes}
        pooler = partial(RoIPooler, **parts["pooler"])
        with seeds.part("detector"):
            detector = build_detector(
                backbone,
                num_classes,
                box_pooler=pooler(size=7),
                refined_samples=self.refined_samples,
                **parts["detector"],
            )
        mask_head = BoundaryPreservingHead if self.boundary_preserving else RoIMaskHead
        with seeds.part("mask_head"):
            masks = mask_head(**shared, pooler=pooler(size=14), **parts["mask_head"])
        scorer = None
        if self.scoring:
            with seeds.part("scoring_head"):
                scorer = MaskIoUHead(**shared, **parts["scoring_head"])
        return TwoStageSegmenter(
            preprocessor=Preprocessor(
                **(MSRA_BGR if self.msra else IMAGENET_RGB),
                **parts["preprocessor"],
                shorter=self.shorter,
                longer_max=self.longer_max,
            ),
            backbone=backbone,
            detector=detector,
            mask_head=masks,
            scoring_head=scorer,
        )
