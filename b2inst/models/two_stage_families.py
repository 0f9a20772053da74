"""Mask R-CNN and the other two-stage models: what their parts are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from b2inst.models.building import PartSeeds, ResizingFamily, levels_of
from b2inst.models.two_stage import (
    CenterMaskSegmenter,
    TensorMaskSegmenter,
    TwoStageSegmenter,
    VotingSegmenter,
)
from b2inst.modules.backbones import RCNNFPN, ResNetFPN, TensorMaskFPN
from b2inst.modules.center_mask import CenterMaskIoUHead, FCOSDetector, SpatialAttentionMaskHead
from b2inst.modules.faster_rcnn import FasterRCNN
from b2inst.modules.fcis import FCISDetector
from b2inst.modules.layers import RoIPooler, mlp
from b2inst.modules.mask_heads import BoundaryPreservingHead, MaskIoUHead, RoIMaskHead
from b2inst.modules.mask_voting import VotingDetector
from b2inst.modules.point_rend import PointRendHead
from b2inst.modules.tensor_mask import TensorMaskHead, WindowDetector


def _normalised_mlp(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), *mlp(inputs, hidden, norm=nn.LayerNorm))


#: Arguments of the parts, as published; parts that are not listed have their defaults.
FULL: dict[str, Any] = defaultdict(
    dict,
    proposals={"anchor_sizes": (32, 64, 128, 256, 512)},
    boxes={"box_head": TwoMLPHead, "hidden": 1024},
    voting={"train_proposals": (2000, 300), "test_proposals": (1000, 300), "samples": 128},
    fcis={"stride": 16},
)
_NORM: dict[str, Any] = {"norm": partial(nn.GroupNorm, 8)}
#: Of a narrow model that learns from scratch on a CPU, with small anchors, fewer proposals and
#: samples, one point in a bin when pooling, and normalised heads, which tolerate a large learning
#: rate.
SMALL: dict[str, Any] = {
    "pooler": {"samples": 1},
    "proposals": {
        "anchor_sizes": (8, 16, 32, 64),
        "train_proposals": (200, 100),
        "test_proposals": (200, 100),
        "samples": 48,
    },
    "boxes": {"box_head": _normalised_mlp, "hidden": 64},
    "mask_head": {"channels": 32, **_NORM},
    "scoring_head": {"channels": 32, "hidden": 64, **_NORM},
    "window_detector": {"class_channels": 48, "box_channels": 32, "num_convs": 2, **_NORM},
    "window_masks": {"channels": 24, "mask_stride": 2, "num_convs": 2, **_NORM},
    "voting": {},
    "fcis": {"stride": 4, "channels": 64, "hard_samples": 48, "side": 40, **_NORM},
    "mnc": {"mask_hidden": 64, "norm": nn.LayerNorm},
}


@dataclass(frozen=True, kw_only=True)
class TwoStageFamily(ResizingFamily):
    """A family of two-stage models, which says how to build their parts."""

    _segmenter: ClassVar[type[TwoStageSegmenter]] = TwoStageSegmenter
    _pyramid: ClassVar[Callable[..., Any]] = RCNNFPN
    _size_divisor: ClassVar[int] = 32  # of the images of models on a ResNet
    _arguments: ClassVar[tuple[dict[str, Any], dict[str, Any]]] = FULL, SMALL

    @property
    def _sizes(self) -> dict[str, Any]:
        return self._arguments[0 if self.full else 1]

    def _parts(self, strides: Sequence[int]) -> dict[str, Callable[..., nn.Module]]:
        """Detector and heads by name, to be built from ``in_channels`` and ``num_classes``."""
        raise NotImplementedError

    def build(self, num_classes: int) -> TwoStageSegmenter:
        seeds = PartSeeds()
        with seeds.part("backbone"):
            backbone = self._build_backbone(self._pyramid, stride_in_1x1=self.msra)
        parts: dict[str, Any] = {}
        for name, build in self._parts(backbone.strides).items():
            with seeds.part(name):
                parts[name] = build(in_channels=backbone.out_channels, num_classes=num_classes)
        divisor = self._size_divisor if self.full else 32
        preprocessor = self._preprocessor(size_divisor=divisor)
        return self._segmenter(preprocessor=preprocessor, backbone=backbone, **parts)


@dataclass(frozen=True, kw_only=True)
class MaskRCNN(TwoStageFamily):
    """Mask R-CNN (He et al., ICCV 2017); with ``scoring`` Mask Scoring R-CNN.

    Args:
        mask_head: Builds the mask head, such as ``BoundaryPreservingHead`` for BMask R-CNN, from
            the arguments of ``RoIMaskHead``.
        scoring: Predict the IoU of masks and rank by it too.
        refined_samples: See ``FasterRCNN``.
    """

    mask_head: Callable[..., nn.Module] = RoIMaskHead
    scoring: bool = False
    refined_samples: bool = False

    _size_divisor = 64  # P6 then has cells of exactly its stride

    def _parts(self, strides: Sequence[int]) -> dict[str, Callable[..., nn.Module]]:
        sizes = self._sizes
        pooler = partial(RoIPooler, strides=(4, 8, 16, 32), **sizes["pooler"])
        parts: dict[str, Callable[..., nn.Module]] = {
            "detector": partial(
                FasterRCNN,
                strides=strides,
                box_pooler=pooler(size=7),
                refined_samples=self.refined_samples,
                **sizes["proposals"],
                **sizes["boxes"],
            ),
            "mask_head": partial(self.mask_head, pooler=pooler(size=14), **sizes["mask_head"]),
        }
        if self.scoring:
            if self.mask_head not in (RoIMaskHead, BoundaryPreservingHead):
                raise ValueError(f"scoring: masks of {self.mask_head.__name__} cannot be rated")
            parts["scoring_head"] = partial(MaskIoUHead, **sizes["scoring_head"])
        return parts


@dataclass(frozen=True, kw_only=True)
class PointRend(MaskRCNN):
    """Mask R-CNN with PointRend's mask head (Kirillov et al., CVPR 2020), as detectron2 has it."""

    mask_head: Callable[..., nn.Module] = PointRendHead
    refined_samples: bool = True

    _size_divisor = 32
    _arguments = (
        FULL
        | {
            "pooler": {"samples": 0},
            "proposals": FULL["proposals"] | {"train_proposals": (2000, 1000), "detectron2": True},
        },
        SMALL
        | {
            "proposals": SMALL["proposals"] | {"detectron2": True},
            "mask_head": SMALL["scoring_head"]
            | {"train_points": 100, "test_points": 196, "roi_size": 56},
        },
    )


@dataclass(frozen=True, kw_only=True)
class CenterMask(TwoStageFamily):
    """CenterMask (Lee & Park, CVPR 2020), with the mask-IoU branch of its R-50 and R-101 models.

    Args:
        head_strides: Levels that instances are detected on (default: all, or 8 to 32 for small
            backbones).
    """

    head_strides: Sequence[int] = ()

    _segmenter = CenterMaskSegmenter
    _pyramid = ResNetFPN

    def _parts(self, strides: Sequence[int]) -> dict[str, Callable[..., nn.Module]]:
        sizes = self._sizes
        pooler = RoIPooler(strides=strides[:3], size=14, samples=0 if self.full else 1)
        return {
            "detector": partial(
                FCOSDetector,
                strides=levels_of(strides, self.head_strides or (() if self.full else (8, 16, 32))),
                object_size=8 if self.full else 4,
                num_convs=4 if self.full else 2,
                samples=128 if self.full else 12,  # as many as the narrow Faster R-CNN's
            ),
            "mask_head": partial(SpatialAttentionMaskHead, pooler=pooler, **sizes["mask_head"]),
            "scoring_head": partial(CenterMaskIoUHead, **sizes["scoring_head"]),
        }


@dataclass(frozen=True, kw_only=True)
class TensorMask(TwoStageFamily):
    """TensorMask (Chen et al., ICCV 2019) with the tensor bipyramid, as detectron2 has it."""

    _segmenter = TensorMaskSegmenter
    _pyramid = TensorMaskFPN

    def _parts(self, strides: Sequence[int]) -> dict[str, Callable[..., nn.Module]]:
        return {
            "detector": partial(WindowDetector, sizes=(11, 15), **self._sizes["window_detector"]),
            "mask_head": lambda in_channels, num_classes: TensorMaskHead(
                in_channels=in_channels, sizes=(11, 15), **self._sizes["window_masks"]
            ),
        }


@dataclass(frozen=True, kw_only=True)
class Voting(TwoStageFamily):
    """MNC (Dai et al., CVPR 2016), FCIS, and with ``scales`` FCIS++ (Li et al., CVPR 2017).

    Args:
        detector: ``MNCDetector`` or ``FCISDetector``.
        scales: See ``VotingSegmenter``.
    """

    detector: Callable[..., VotingDetector] = FCISDetector
    scales: Sequence[float] = ()

    _segmenter = VotingSegmenter
    _size_divisor = 64

    def _parts(self, strides: Sequence[int]) -> dict[str, Callable[..., nn.Module]]:
        sizes = self._sizes
        own = sizes["fcis"] if self.detector is FCISDetector else sizes["boxes"] | sizes["mnc"]
        options = sizes["proposals"] | sizes["voting"] | own
        return {"detector": partial(self.detector, strides=strides, **options)}

    def build(self, num_classes: int) -> TwoStageSegmenter:
        model: Any = super().build(num_classes)
        model.scales = tuple(self.scales)
        return model
