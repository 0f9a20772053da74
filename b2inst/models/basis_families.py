"""BlendMask, CondInst and YOLACT, and B2Inst on them: what their parts are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from torch import nn

from b2inst.models.building import IMAGENET_RGB, BasisFamily, ResizingFamily, levels_of
from b2inst.modules.backbones import ResNetFPN, YolactFPN
from b2inst.modules.basis_heads import BasisHead, MaskBranch, PrototypeHead
from b2inst.modules.blender import Blender
from b2inst.modules.dynamic_mask_head import DynamicMaskHead, at_random, best_of_objects
from b2inst.modules.fcos_head import CondInstHead, FCOSHead
from b2inst.modules.linear_assembler import LinearAssembler
from b2inst.modules.preprocessor import Preprocessor, SquarePreprocessor
from b2inst.modules.prior_box_head import PriorBoxHead
from b2inst.modules.semantic_heads import ClassMapHead, FocalSemanticHead, SemanticHead
from b2inst.ops.fast_nms import cross_class_fast_nms, fast_nms

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
        shared_convs, tower_convs: Of the instance head, before its two towers and in each.
        basis_channels, basis_convs: Of the basis head; convolutions after the levels' sum.
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
        return self._branch(
            in_channels=shared["in_channels"],
            num_bases=num_bases,
            strides=self._basis_strides,
            channels=self.basis_channels,
            num_convs=self.basis_convs,
            auxiliary=self._auxiliary(**shared),
        )

    def _instance_head(self, *, strides: Sequence[int], **arguments: int) -> FCOSHead:
        return self._head(
            strides=levels_of(strides, self.head_strides),
            object_size=8 if self.full else 4,
            num_convs=self.tower_convs,
            num_shared_convs=self.shared_convs,
            **arguments,
        )


@dataclass(frozen=True, kw_only=True)
class BlendMask(FCOSFamily):
    """BlendMask (Chen et al., CVPR 2020); with ``boundary`` and ``scoring`` B2Inst-BlendMask.

    Args:
        attention_size, roi_size: See ``Blender``.
        basis_stride: Of the grid of the bases, in pixels; a divisor of their finest level's.
    """

    num_bases: int = 4
    attention_size: int = 7
    basis_stride: int = 4
    roi_size: int = 56

    def _branch(self, **arguments: Any) -> BasisHead:
        finest = self._basis_strides[0]
        if finest % self.basis_stride:
            raise ValueError(f"basis_stride {self.basis_stride}: choose a divisor of {finest}")
        return BasisHead(upsampling=finest // self.basis_stride, **arguments)

    def _auxiliary(self, **shared: int) -> SemanticHead | None:
        return SemanticHead(**shared) if self.full else None

    def _assembler(self, **arguments: Any) -> Blender:
        return Blender(attention_size=self.attention_size, roi_size=self.roi_size, **arguments)


@dataclass(frozen=True, kw_only=True)
class CondInst(FCOSFamily):
    """CondInst (Tian et al., ECCV 2020); with ``boundary`` and ``scoring`` B2Inst-CondInst.

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
        drawn = FocalSemanticHead(**shared) if self.full or self.semantic else None
        return drawn if self.semantic else None

    def _assembler(self, **arguments: Any) -> DynamicMaskHead:
        sample = at_random
        if self.best_per_image is not None:
            sample = partial(best_of_objects, per_image=self.best_per_image)
        return DynamicMaskHead(sample=sample, **arguments)


#: Pixel statistics of the published weights, RGB on the 0..255 scale.
YOLACT_RGB: dict[str, Any] = {"mean": (123.68, 116.78, 103.94), "std": (58.40, 57.12, 57.38)}

#: Options of a narrow model that learns from scratch on a CPU. It also has norms after the
#: convolutions of prototypes and instance head, and coefficients that begin near 0.
SMALL_YOLACT: dict[str, Any] = {
    "num_bases": 16,
    "head_strides": (8, 16, 32),
    "prototype_channels": 24,
    "prototype_convs": 2,
}


@dataclass(frozen=True, kw_only=True)
class Yolact(BasisFamily):
    """YOLACT (Bolya et al., ICCV 2019); with ``boundary`` and ``scoring`` B2Inst-YOLACT.

    Args:
        size: Side in pixels of the square that every image is squeezed to, unless ``keep_size``;
            550 or 700 as published. A multiple of 32 for small backbones.
        keep_size: Keep the size of images, and pad them.
        cross_class_nms: Suppress between classes too, which is faster.
        head_strides: Levels that instances are detected on (default: all).
        prior_sizes: Sides in pixels of the prior boxes of each of them (default: 24 to 384 for
            images of 550 pixels, of small models 20, 36 and 64 for 96, in proportion for others).
        prototype_channels, prototype_convs: Width of the prototype head, and its convolutions
            before the upsampling.
    """

    num_bases: int = 32
    size: int = 550
    keep_size: bool = False
    cross_class_nms: bool = False
    head_strides: Sequence[int] = ()
    prior_sizes: Sequence[float] | None = None
    prototype_channels: int = 256
    prototype_convs: int = 3

    _sizes = (
        {"branch_channels": 16, "pyramid_strides": (8, 16, 32)},
        {"pooled_channels": 24, "channels": 24, "hidden": 256},
    )
    _branch = BasisHead
    _assembler = LinearAssembler

    def _backbone(self) -> Any:
        return self._build_backbone(YolactFPN)

    def _preprocessor(self) -> Preprocessor:
        pixels = IMAGENET_RGB if self.backbone == "mobilenet_v2" else YOLACT_RGB
        if self.keep_size:
            return Preprocessor(**pixels, shorter=None, longer_max=None)
        return SquarePreprocessor(**pixels, side=self.size)

    def _basis_head(self, *, num_bases: int, **shared: int) -> PrototypeHead:
        if num_bases > self.num_bases:
            raise ValueError(
                "boundary: branch_channels 0 would make a prototype the boundary, and prototypes "
                "are never negative; give the boundary a branch of its own"
            )
        (stride, *_) = self._basis_strides
        cell = None if self.keep_size else self.size / -(-self.size // stride)
        auxiliary = ClassMapHead(**shared, cell=cell) if self.full else None
        return PrototypeHead(
            in_channels=shared["in_channels"],
            num_bases=num_bases,
            stride=stride,
            cell=None if cell is None else cell / 2,
            channels=self.prototype_channels,
            num_convs=self.prototype_convs,
            norm=None if self.full else nn.BatchNorm2d,
            auxiliary=auxiliary,
        )

    def _instance_head(
        self, *, strides: Sequence[int], in_channels: int, **arguments: int
    ) -> PriorBoxHead:
        # As published for 700 pixels, too: in proportion, and cut to whole pixels.
        published = [size * self.size // 550 for size in (24, 48, 96, 192, 384)]
        small = [size * self.size / 96 for size in (20, 36, 64)]
        return PriorBoxHead(
            in_channels=in_channels,
            side=self.size,
            square=not self.keep_size,
            strides=levels_of(strides, self.head_strides),
            scales=self.prior_sizes or (published if self.full else small),
            norm=None if self.full else partial(nn.GroupNorm, in_channels // 4),
            coefficient_gain=1.0 if self.full else 0.1,
            nms=cross_class_fast_nms if self.cross_class_nms else fast_nms,
            **arguments,
        )
