"""PointRend (Kirillov et al., CVPR 2020), a mask head of Mask R-CNN."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from b2inst.models.building import IMAGENET_RGB, MSRA_BGR, Family, PartSeeds
from b2inst.models.mask_rcnn import FULL, SMALL, build_detector
from b2inst.models.two_stage import TwoStageSegmenter
from b2inst.modules.backbones import RCNNFPN
from b2inst.modules.layers import RoIPooler
from b2inst.modules.point_rend import PointRendHead
from b2inst.modules.preprocessor import Preprocessor
from b2inst.structures import Features, Targets

#: Of the narrow model: masks of fewer cells, refined at fewer points.
_SMALL_HEAD: dict[str, Any] = {
    "channels": 32,
    "hidden": 64,
    "norm": partial(nn.GroupNorm, 8),
    "norm_hidden": nn.LayerNorm,
    "train_points": 100,
    "test_points": 196,
    "roi_size": 56,
}


class PointRendSegmenter(TwoStageSegmenter):
    """A two-stage model whose masks are trained at points. ``mask_head`` is a ``PointRendHead``."""

    def forward(self, images: list[Tensor], targets: list[Targets]) -> dict[str, Tensor]:
        """Losses by name; see ``Segmenter``."""
        batch = self.preprocessor(images)
        features: Features = self.backbone(batch.images)
        losses, samples = self.detector.loss(features, batch, targets)
        outputs = self.mask_head(features, [s.boxes for s in samples])
        return losses | self.mask_head.loss(outputs, samples, targets)


@dataclass(frozen=True, kw_only=True)
class PointRend(Family):
    """Mask R-CNN with PointRend's mask head, as detectron2 has it.

    Args:
        msra: the layout of detectron2's MSRA weights: BGR input, stride in the 1×1 convolutions.
        shorter, longer_max: test size of images in pixels; None keeps their own.
    """

    msra: bool = False
    shorter: int | None = 800
    longer_max: int | None = 1333

    def build(self, num_classes: int) -> PointRendSegmenter:
        """A model with fresh weights."""
        seeds = PartSeeds()
        full = self.backbone.startswith("resnet")
        backbone = self._build_backbone(seeds, RCNNFPN, stride_in_1x1=self.msra)
        detector: dict[str, Any] = (
            FULL["detector"] | {"train_proposals": (2000, 1000)} if full else SMALL["detector"]
        )
        pooler = RoIPooler(strides=(4, 8, 16, 32), size=7, samples=0 if full else 1)
        with seeds.part("detector"):
            boxes = build_detector(
                backbone,
                num_classes,
                box_pooler=pooler,
                refined_samples=True,
                detectron2=True,
                **detector,
            )
        with seeds.part("mask_head"):
            masks = PointRendHead(
                in_channels=backbone.out_channels,
                num_classes=num_classes,
                stride=backbone.strides[0],
                **({} if full else _SMALL_HEAD),
            )
        return PointRendSegmenter(
            preprocessor=Preprocessor(
                **(MSRA_BGR if self.msra else IMAGENET_RGB),
                shorter=self.shorter,
                longer_max=self.longer_max,
            ),
            backbone=backbone,
            detector=boxes,
            mask_head=masks,
        )
