"""BlendMask (Chen et al., CVPR 2020), and B2Inst on top of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from b2inst.models.basis_segmenter import BasisSegmenter
from b2inst.models.building import IMAGENET_RGB, MSRA_BGR, BasisFamily, PartSeeds
from b2inst.modules.basis_head import BasisHead
from b2inst.modules.blender import Blender
from b2inst.modules.fcos_head import FCOSHead
from b2inst.modules.fcos_targets import sizes_of_interest
from b2inst.modules.oracle_boundary import OracleBoundary
from b2inst.modules.preprocessor import Preprocessor
from b2inst.modules.resnet_fpn import ResNetFPN
from b2inst.modules.semantic_heads import SemanticHead

#: Options of a narrow model that learns from scratch on a CPU.
SMALL_BLENDMASK: dict[str, Any] = {
    "head_strides": (8, 16, 32),
    "tower_convs": 2,
    "basis_stride": 2,
    "basis_channels": 24,
    "basis_convs": 2,
    "roi_size": 28,
}


@dataclass(frozen=True, kw_only=True)
class BlendMask(BasisFamily):
    """BlendMask; with ``boundary`` and ``scoring`` it is B2Inst-BlendMask.

    Args:
        attention_size: A; 7 in the paper, 14 in the published BlendMask.
        oracle: arguments of ``OracleBoundary``, the true boundary in place of a predicted one, for
            experiments.
        msra: the layout of detectron2's MSRA weights: BGR input, stride in the 1×1 convolutions.
        top_levels: levels of a ResNet's pyramid above P5: 2 (default), or 1 to leave out P7.
        head_strides: levels that instances are detected on (default: all).
        shared_convs, tower_convs: convolutions of the instance head before its two towers, and in
            each of them.
        basis_stride: of the grid of the bases, in pixels.
        basis_channels, basis_convs: width of the basis head, and its convolutions before the
            upsampling.
        roi_size: R, side of the masks in cells.
        shorter, longer_max: test size of images in pixels; None keeps their own.
    """

    num_bases: int = 4
    attention_size: int = 7
    oracle: Mapping[str, Any] | None = None
    msra: bool = False
    top_levels: int | None = None
    head_strides: Sequence[int] = ()
    shared_convs: int = 0
    tower_convs: int = 4
    basis_stride: int = 4
    basis_channels: int = 128
    basis_convs: int = 3
    roi_size: int = 56
    shorter: int | None = 800
    longer_max: int | None = 1333

    def build(self, num_classes: int) -> BasisSegmenter:
        """A model with fresh weights."""
        seeds, preset = PartSeeds(), self.preset
        backbone = self._build_backbone(
            seeds, ResNetFPN, stride_in_1x1=self.msra, top_levels=self.top_levels
        )
        width = backbone.out_channels
        strides = tuple(self.head_strides or backbone.strides)
        upsampling = preset.basis_strides[0] // self.basis_stride

        def basis_head(num_bases: int) -> BasisHead:
            auxiliary = None
            if preset.auxiliary:
                auxiliary = SemanticHead(in_channels=width, num_classes=num_classes)
            return BasisHead(
                in_channels=width,
                num_bases=num_bases,
                strides=preset.basis_strides,
                upsampling=upsampling,
                channels=self.basis_channels,
                num_convs=self.basis_convs,
                auxiliary=auxiliary,
            )

        return self._build_segmenter(
            seeds,
            preprocessor=Preprocessor(
                **(MSRA_BGR if self.msra else IMAGENET_RGB),
                shorter=self.shorter,
                longer_max=self.longer_max,
            ),
            backbone=backbone,
            basis_head=basis_head,
            branch=partial(BasisHead, upsampling=upsampling),
            assembler=partial(Blender, attention_size=self.attention_size, roi_size=self.roi_size),
            instance_head=partial(
                FCOSHead,
                in_channels=width,
                num_classes=num_classes,
                strides=strides,
                sizes_of_interest=sizes_of_interest(strides, preset.object_size),
                num_convs=self.tower_convs,
                num_shared_convs=self.shared_convs,
            ),
            oracle=None if self.oracle is None else OracleBoundary(**self.oracle),
        )
