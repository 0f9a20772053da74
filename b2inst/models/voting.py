"""MNC (Dai et al., CVPR 2016), FCIS and FCIS++ (Li et al., CVPR 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from b2inst.models.building import PartSeeds, ResizingFamily
from b2inst.models.mask_rcnn import FULL_RCNN, GROUP_NORM, SMALL_RCNN
from b2inst.models.segmenter import Prediction
from b2inst.models.two_stage import TwoStageSegmenter
from b2inst.modules.backbones import RCNNFPN
from b2inst.modules.fcis import FCISDetector
from b2inst.modules.mask_voting import View, VotingDetector
from b2inst.modules.mnc import MNCDetector
from b2inst.structures import ImageBatch, RoIMasks, Targets


class VotingSegmenter(TwoStageSegmenter):
    """A two-stage model whose detector predicts the masks as well.

    Args:
        scales: At inference regions are predicted from images at these scales, times the network's
            input, and their mirror images; empty for the network's input alone.
        parts: Preprocessor, backbone and detector; see ``TwoStageSegmenter``.
    """

    def __init__(self, *, scales: Sequence[float] = (), **parts: Any) -> None:
        super().__init__(mask_head=None, **parts)
        self.scales = tuple(scales)

    def forward(self, images: list[Tensor], targets: list[Targets]) -> dict[str, Tensor]:
        """Losses by name; see ``Segmenter``."""
        batch = self.preprocessor(images)
        return dict(self.detector.loss(self.backbone(batch.images), batch, targets))

    def _predict(self, batch: ImageBatch) -> Prediction:
        with self._network():
            views = [self._view(batch.images, scale) for scale in self.scales]
            detections = self.detector.detect(self.backbone(batch.images), batch, views)
        probabilities = torch.cat([d.coefficients for d in detections])
        size = round(probabilities.shape[1] ** 0.5)
        boxes = torch.cat([d.boxes for d in detections])
        return Prediction(detections, RoIMasks(probabilities.unflatten(1, (size, size)), boxes), {})

    def _view(self, images: Tensor, scale: float) -> View:
        images = F.interpolate(images, scale_factor=scale, mode="bilinear", antialias=True)
        height, width = (-side % self.preprocessor.size_divisor for side in images.shape[2:])
        images = F.pad(images, (0, width, 0, height))
        both = (self.detector.maps(self.backbone(image)) for image in (images, images.flip(3)))
        return View(scale, images.shape[3], *both)


#: Arguments of both detectors: 300 proposals, as published.
_FULL: dict[str, Any] = {
    "anchor_sizes": FULL_RCNN["detector"]["anchor_sizes"],
    "train_proposals": (2000, 300),
    "test_proposals": (1000, 300),
    "samples": 128,
}
_SMALL = {name: SMALL_RCNN["detector"][name] for name in _FULL}

#: Arguments of each, of models on a ResNet and of narrow ones.
_OWN: dict[Any, tuple[dict[str, Any], dict[str, Any]]] = {
    FCISDetector: (
        {"stride": 16},
        {"stride": 4, "channels": 64, "norm": GROUP_NORM, "hard_samples": 48, "side": 40},
    ),
    MNCDetector: (
        {"box_head": FULL_RCNN["box_head"], "hidden": 1024},
        {"box_head": SMALL_RCNN["box_head"], "hidden": 64, "mask_hidden": 64, "norm": nn.LayerNorm},
    ),
}


@dataclass(frozen=True, kw_only=True)
class Voting(ResizingFamily):
    """MNC, FCIS, and with ``scales`` FCIS++.

    Args:
        detector: ``MNCDetector`` or ``FCISDetector``.
        scales: See ``VotingSegmenter``.
    """

    detector: Callable[..., VotingDetector] = FCISDetector
    scales: Sequence[float] = ()

    def build(self, num_classes: int) -> VotingSegmenter:
        """A model with fresh weights."""
        seeds = PartSeeds()
        full = self.backbone.startswith("resnet")
        with seeds.part("backbone"):
            backbone = self._build_backbone(RCNNFPN, stride_in_1x1=self.msra)
        with seeds.part("detector"):
            detector = self.detector(
                in_channels=backbone.out_channels,
                num_classes=num_classes,
                strides=backbone.strides,
                **(_FULL if full else _SMALL),
                **_OWN[self.detector][0 if full else 1],
            )
        return VotingSegmenter(
            preprocessor=self._preprocessor(**(FULL_RCNN if full else SMALL_RCNN)["preprocessor"]),
            backbone=backbone,
            detector=detector,
            scales=self.scales,
        )
