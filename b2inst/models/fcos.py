"""BlendMask (Chen et al., CVPR 2020) and CondInst (Tian et al., ECCV 2020), and B2Inst on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from b2inst.models.building import BasisFamily, ResizingFamily
from b2inst.modules.backbones import ResNetFPN
from b2inst.modules.basis_heads import BasisHead, MaskBranch
from b2inst.modules.blender import Blender
from b2inst.modules.dynamic_mask_head import DynamicMaskHead, at_random, best_of_objects
from b2inst.modules.fcos_head import CondInstHead, FCOSHead
from b2inst.modules.fcos_targets import sizes_of_interest
from b2inst.modules.semantic_heads import FocalSemanticHead, SemanticHead

#: Options of the FCOS families' narrow models, which learn from scratch on a CPU.
SMALL_FCOS: dict[str, Any] = {
    "head_strides": (8, 16, 32),
    "tower_convs": 2,
    "basis_channels": 24,
    "basis_convs": 2,
}


@dataclass(frozen=True, kw_only=True)
class FCOSFamily(ResizingFamily, BasisFamily):
    """A family with an FCOS detector, which keeps the shape of images.

    Args:
        top_levels: Levels of a ResNet's pyramid above P5: 2 (default), or 1 to leave out P7.
        head_strides: Levels that instances are detected on (default: all).
        shared_convs, tower_convs: Convolutions of the instance head before its two towers, and in
            each of them.
        basis_channels, basis_convs: Width of the basis head, and its convolutions after the sum of
            the levels.
    """

    top_levels: int | None = None
    head_strides: Sequence[int] = ()
    shared_convs: int = 0
    tower_convs: int = 4
    basis_channels: int = 128
    basis_convs: int = 3

    _head: ClassVar[type[FCOSHead]] = FCOSHead
    _auxiliary: ClassVar[Callable[..., Any]]  # built from ``in_channels`` and ``num_classes``

    def _backbone(self) -> Any:
        return self._build_backbone(ResNetFPN, stride_in_1x1=self.msra, top_levels=self.top_levels)

    def _basis_head(self, *, num_bases: int, **shared: int) -> Any:
        auxiliary = self._auxiliary(**shared)
        return self._branch(
            in_channels=shared["in_channels"],
            num_bases=num_bases,
            strides=self.preset.basis_strides,
            channels=self.basis_channels,
            num_convs=self.basis_convs,
            auxiliary=auxiliary,
        )

    def _instance_head(self, *, strides: Sequence[int], **arguments: int) -> FCOSHead:
        strides = tuple(self.head_strides or strides)
        return self._head(
            strides=strides,
            sizes_of_interest=sizes_of_interest(strides, self.preset.object_size),
            num_convs=self.tower_convs,
            num_shared_convs=self.shared_convs,
            **arguments,
        )


@dataclass(frozen=True, kw_only=True)
class BlendMask(FCOSFamily):
    """BlendMask; with ``boundary`` and ``scoring`` it is B2Inst-BlendMask.

    Args:
        attention_size: A; 7 in the paper, 14 in the published BlendMask.
        basis_stride: Of the grid of the bases, in pixels.
        roi_size: R, side of the masks in cells.
    """

    num_bases: int = 4
    attention_size: int = 7
    basis_stride: int = 4
    roi_size: int = 56

    def _branch(self, **arguments: Any) -> BasisHead:
        upsampling = self.preset.basis_strides[0] // self.basis_stride
        return BasisHead(upsampling=upsampling, **arguments)

    def _auxiliary(self, **shared: int) -> SemanticHead | None:
        return SemanticHead(**shared) if self.preset.auxiliary else None

    def _assembler(self, **arguments: Any) -> Blender:
        return Blender(attention_size=self.attention_size, roi_size=self.roi_size, **arguments)


@dataclass(frozen=True, kw_only=True)
class CondInst(FCOSFamily):
    """CondInst; with ``boundary`` and ``scoring`` it is B2Inst-CondInst.

    Args:
        semantic: Train a semantic segmentation beside the bases, as published ``_sem`` models do.
        best_per_image: Masks to train per image, of its best predicted positives (default: all, or
            250 at random of an image that has more).
    """

    num_bases: int = 8
    basis_convs: int = 4
    semantic: bool = False
    best_per_image: int | None = None

    _head = CondInstHead
    _branch = MaskBranch

    def _auxiliary(self, **shared: int) -> FocalSemanticHead | None:
        # Drawn even if unused: the weights of the mask branch must not depend on ``semantic``.
        drawn = FocalSemanticHead(**shared) if self.preset.auxiliary or self.semantic else None
        return drawn if self.semantic else None

    def _assembler(self, **arguments: Any) -> DynamicMaskHead:
        sample = at_random
        if self.best_per_image is not None:
            sample = partial(best_of_objects, per_image=self.best_per_image)
        return DynamicMaskHead(sample=sample, **arguments)
