"""MNC (Dai et al., CVPR 2016), FCIS and FCIS++ (Li et al., CVPR 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from b2inst.models.building import IMAGENET_RGB, Family, PartSeeds
from b2inst.models.mask_rcnn import FULL_RCNN, GROUP_NORM, SMALL_RCNN
from b2inst.models.segmenter import Prediction
from b2inst.models.two_stage import TwoStageSegmenter
from b2inst.modules.backbones import RCNNFPN
from b2inst.modules.fcis import FCISDetector, View
from b2inst.modules.mask_voting import VotingDetector
from b2inst.modules.preprocessor import Preprocessor
from b2inst.structures import Detections, Features, ImageBatch, RoIMasks, Targets


class VotingSegmenter(TwoStageSegmenter):
    """A two-stage model whose detector predicts the masks as well.

    Args:
        preprocessor, backbone: See ``Segmenter``.
        detector: Predicts boxes, classes and masks.
    """

    detector: VotingDetector

    def __init__(
        self, *, preprocessor: Preprocessor, backbone: nn.Module, detector: VotingDetector
    ) -> None:
        super().__init__(
            preprocessor=preprocessor, backbone=backbone, detector=detector, mask_head=None
        )

    def forward(self, images: list[Tensor], targets: list[Targets]) -> dict[str, Tensor]:
        """Losses by name; see ``Segmenter``."""
        batch = self.preprocessor(images)
        return self.detector.loss(self.backbone(batch.images), batch, targets)

    def _predict(self, batch: ImageBatch) -> Prediction:
        with self._network():
            detections = self._detect(self._features(batch.images), batch)
        probabilities = torch.cat([d.coefficients for d in detections])
        size = round(probabilities.shape[1] ** 0.5)
        boxes = torch.cat([d.boxes for d in detections])
        return Prediction(detections, RoIMasks(probabilities.unflatten(1, (size, size)), boxes), {})

    def _detect(self, features: Features, batch: ImageBatch) -> list[Detections]:
        return self.detector.detect(features, batch)


class FCISSegmenter(VotingSegmenter):
    """FCIS, which may also look at images at other scales, and mirrored.

    Args:
        scales: Times the network's input; empty to look at that alone, not mirrored.
        parts: Arguments of ``VotingSegmenter``.
    """

    detector: FCISDetector

    def __init__(self, *, scales: Sequence[float], **parts: Any) -> None:
        super().__init__(**parts)
        self.scales = tuple(scales)

    def _detect(self, features: Features, batch: ImageBatch) -> list[Detections]:
        views = [self._view(batch.images, scale) for scale in self.scales]
        return self.detector.detect(features, batch, views)

    def _view(self, images: Tensor, scale: float) -> View:
        scaled = F.interpolate(images, scale_factor=scale, mode="bilinear", antialias=True)
        divisor = self.preprocessor.size_divisor
        height, width = (-side % divisor for side in scaled.shape[2:])
        scaled = F.pad(scaled, (0, width, 0, height))
        plain, mirrored = self._features(scaled), self._features(scaled.flip(3))
        return View(scale, scaled.shape[3], plain, mirrored)


#: Arguments of ``RegionDetector``: 300 proposals, as published, and those of narrow models.
_FULL: dict[str, Any] = {
    "anchor_sizes": FULL_RCNN["detector"]["anchor_sizes"],
    "train_proposals": (2000, 300),
    "test_proposals": (1000, 300),
    "samples": 128,
}
_SMALL = {name: SMALL_RCNN["detector"][name] for name in _FULL}

_FULL_FCIS: dict[str, Any] = {"stride": 16}
_SMALL_FCIS: dict[str, Any] = {
    "stride": 4,
    "channels": 64,
    "norm": GROUP_NORM,
    "hard_samples": 48,
    "side": 40,
}


@dataclass(frozen=True, kw_only=True)
class VotingFamily(Family):
    """Models whose detector predicts the masks as well.

    Args:
        shorter, longer_max: Test size of images in pixels; None keeps their own.
    """

    shorter: int | None = 800
    longer_max: int | None = 1333

    def build(self, num_classes: int) -> VotingSegmenter:
        """A model with fresh weights."""
        seeds = PartSeeds()
        full = self.backbone.startswith("resnet")
        with seeds.part("backbone"):
            backbone = self._build_backbone(RCNNFPN)
        with seeds.part("detector"):
            detector = self._build_detector(
                full,
                in_channels=backbone.out_channels,
                num_classes=num_classes,
                strides=backbone.strides,
                **(_FULL if full else _SMALL),
            )
        size = (FULL_RCNN if full else SMALL_RCNN)["preprocessor"]
        return self._segmenter(
            preprocessor=Preprocessor(
                **IMAGENET_RGB, **size, shorter=self.shorter, longer_max=self.longer_max
            ),
            backbone=backbone,
            detector=detector,
        )

    def _build_detector(self, full: bool, **arguments: Any) -> VotingDetector:
        """Of a model on a ResNet if ``full``, or else a narrow one."""
        raise NotImplementedError

    @property
    def _segmenter(self) -> Callable[..., VotingSegmenter]:
        return VotingSegmenter


@dataclass(frozen=True, kw_only=True)
class FCIS(VotingFamily):
    """FCIS; with ``scales`` FCIS++.

    Args:
        scales: Scales at which images are seen at inference, each also mirrored, times the test
            size; empty for the test size alone.
    """

    scales: Sequence[float] = ()

    def _build_detector(self, full: bool, **arguments: Any) -> FCISDetector:
        return FCISDetector(**(_FULL_FCIS if full else _SMALL_FCIS), **arguments)

    @property
    def _segmenter(self) -> Callable[..., FCISSegmenter]:
        return partial(FCISSegmenter, scales=self.scales)
