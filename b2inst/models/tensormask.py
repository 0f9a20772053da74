"""TensorMask (Chen, Girshick, He and Dollár, ICCV 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from b2inst.models.building import IMAGENET_RGB, MSRA_BGR, Family, PartSeeds
from b2inst.models.segmenter import Prediction, Segmenter
from b2inst.modules.backbones import TensorMaskFPN
from b2inst.modules.preprocessor import Preprocessor
from b2inst.modules.tensor_mask import TensorMaskHead, WindowHead
from b2inst.structures import ImageBatch, Targets


class TensorMaskSegmenter(Segmenter):
    """A single-stage segmenter that predicts a mask in a window around every cell.

    Args:
        preprocessor, backbone: See ``Segmenter``.
        instance_head: Predicts class and box of each window.
        mask_head: Predicts the masks of chosen windows.
    """

    def __init__(
        self,
        *,
        preprocessor: Preprocessor,
        backbone: nn.Module,
        instance_head: WindowHead,
        mask_head: TensorMaskHead,
    ) -> None:
        super().__init__(preprocessor=preprocessor, backbone=backbone)
        self.instance_head = instance_head
        self.mask_head = mask_head

    @property
    def _detector(self) -> WindowHead:
        return self.instance_head

    def forward(self, images: list[Tensor], targets: list[Targets]) -> dict[str, Tensor]:
        """Losses by name; see ``Segmenter``."""
        features = self.backbone(self.preprocessor(images).images)
        losses, positives = self.instance_head.loss(self.instance_head(features), targets)
        masks = self.mask_head(features, positives.image_index, positives.coefficients)
        return losses | self.mask_head.loss(masks, positives, targets)

    def _predict(self, batch: ImageBatch) -> Prediction:
        with self._network():
            features = self.backbone(batch.images)
            detections = self.instance_head.detect(self.instance_head(features))
            image = torch.cat([torch.full_like(d.labels, i) for i, d in enumerate(detections)])
            places = torch.cat([d.coefficients for d in detections])
            masks = self.mask_head(features, image, places).masks()
        return Prediction(detections, masks, {})


#: Arguments of both heads and of each, as published, and of a narrow model that learns from
#: scratch on a CPU, with norms and finer masks.
_FULL: tuple[dict[str, Any], ...] = ({"sizes": (11, 15)}, {}, {})
_SMALL: tuple[dict[str, Any], ...] = (
    {"sizes": (11, 15), "num_convs": 2, "norm": partial(nn.GroupNorm, 8)},
    {"class_channels": 48, "box_channels": 32},
    {"channels": 24, "mask_stride": 2},
)


@dataclass(frozen=True, kw_only=True)
class TensorMask(Family):
    """TensorMask with the tensor bipyramid, as detectron2 has it.

    Args:
        msra: The layout of detectron2's MSRA weights: BGR input, stride in the 1×1 convolutions.
        head_strides: Levels that instances are detected on (default: all).
        shorter, longer_max: Test size of images in pixels; None keeps their own.
    """

    msra: bool = False
    head_strides: Sequence[int] = ()
    shorter: int | None = 800
    longer_max: int | None = 1333

    def build(self, num_classes: int) -> TensorMaskSegmenter:
        """A model with fresh weights."""
        seeds = PartSeeds()
        parts, classes_and_boxes, masks = _FULL if self.backbone.startswith("resnet") else _SMALL
        with seeds.part("backbone"):
            backbone = self._build_backbone(TensorMaskFPN, stride_in_1x1=self.msra)
        strides = tuple(self.head_strides or backbone.strides)
        shared = {"in_channels": backbone.out_channels, "strides": strides, **parts}
        with seeds.part("instance_head"):
            instance_head = WindowHead(num_classes=num_classes, **shared, **classes_and_boxes)
        with seeds.part("mask_head"):
            mask_head = TensorMaskHead(**shared, **masks)
        return TensorMaskSegmenter(
            preprocessor=Preprocessor(
                **(MSRA_BGR if self.msra else IMAGENET_RGB),
                shorter=self.shorter,
                longer_max=self.longer_max,
            ),
            backbone=backbone,
            instance_head=instance_head,
            mask_head=mask_head,
        )
