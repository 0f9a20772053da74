"""CondInst (Tian et al., ECCV 2020), and B2Inst on top of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from b2inst.models.basis_segmenter import BasisSegmenter
from b2inst.models.building import IMAGENET_RGB, MSRA_BGR, BasisFamily, PartSeeds
from b2inst.modules.condinst_head import CondInstHead
from b2inst.modules.dynamic_mask_head import DynamicMaskHead
from b2inst.modules.fcos_targets import sizes_of_interest
from b2inst.modules.mask_branch import MaskBranch
from b2inst.modules.positive_sampling import at_random, best_of_objects
from b2inst.modules.preprocessor import Preprocessor
from b2inst.modules.resnet_fpn import ResNetFPN
from b2inst.modules.semantic_heads import FocalSemanticHead

#: Options of a narrow model that learns from scratch on a CPU.
SMALL_CONDINST: dict[str, Any] = {
    "head_strides": (8, 16, 32),
    "tower_convs": 2,
    "basis_channels": 24,
    "basis_convs": 2,
}


@dataclass(frozen=True, kw_only=True)
class CondInst(BasisFamily):
    """CondInst; with ``boundary`` and ``scoring`` it is B2Inst-CondInst.

    Args:
        semantic: train a semantic segmentation beside the bases, as published ``_sem`` models do.
        best_per_image: masks to train per image, of its best predicted positives (default: all, or
            250 at random of an image that has more).
        msra: the layout of detectron2's MSRA weights: BGR input, stride in the 1×1 convolutions.
        head_strides: levels that instances are detected on (default: all).
        tower_convs: convolutions in each of the instance head's two towers.
        basis_channels, basis_convs: width of the mask branch, and its convolutions.
        shorter, longer_max: test size of images in pixels; None keeps their own.
    """

    num_bases: int = 8
    semantic: bool = False
    best_per_image: int | None = None
    msra: bool = False
    head_strides: Sequence[int] = ()
    tower_convs: int = 4
    basis_channels: int = 128
    basis_convs: int = 4
    shorter: int | None = 800
    longer_max: int | None = 1333

    def build(self, num_classes: int) -> BasisSegmenter:
        """A model with fresh weights."""
        seeds, preset = PartSeeds(), self.preset
        backbone = self._build_backbone(seeds, ResNetFPN, stride_in_1x1=self.msra)
        width = backbone.out_channels
        strides = tuple(self.head_strides or backbone.strides)

        def basis_head(num_bases: int) -> MaskBranch:
            auxiliary = None
            # Drawn even if unused: the weights of the mask branch must not depend on ``semantic``.
            if preset.auxiliary or self.semantic:
                auxiliary = FocalSemanticHead(in_channels=width, num_classes=num_classes)
            return MaskBranch(
                in_channels=width,
                num_bases=num_bases,
                strides=preset.basis_strides,
                channels=self.basis_channels,
                num_convs=self.basis_convs,
                auxiliary=auxiliary if self.semantic else None,
            )

        sample = at_random
        if self.best_per_image is not None:
            sample = partial(best_of_objects, per_image=self.best_per_image)
        return self._build_segmenter(
            seeds,
            preprocessor=Preprocessor(
                **(MSRA_BGR if self.msra else IMAGENET_RGB),
                shorter=self.shorter,
                longer_max=self.longer_max,
            ),
            backbone=backbone,
            basis_head=basis_head,
            branch=MaskBranch,
            assembler=partial(DynamicMaskHead, sample=sample),
            instance_head=partial(
                CondInstHead,
                in_channels=width,
                num_classes=num_classes,
                strides=strides,
                sizes_of_interest=sizes_of_interest(strides, preset.object_size),
                num_convs=self.tower_convs,
            ),
        )
