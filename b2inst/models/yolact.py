"""YOLACT (Bolya et al., ICCV 2019), and B2Inst on top of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from b2inst.models.basis_segmenter import BasisSegmenter
from b2inst.models.building import FULL, SMALL, BasisFamily, Preset
from b2inst.modules.backbones import YolactFPN
from b2inst.modules.basis_heads import BasisHead, PrototypeHead
from b2inst.modules.linear_assembler import LinearAssembler
from b2inst.modules.preprocessor import Preprocessor, SquarePreprocessor
from b2inst.modules.prior_box_head import PriorBoxHead
from b2inst.modules.semantic_heads import ClassMapHead
from b2inst.ops.fast_nms import cross_class_fast_nms, fast_nms

#: Pixel statistics of the published weights, RGB on the 0..255 scale.
YOLACT_RGB: dict[str, Any] = {"mean": (123.68, 116.78, 103.94), "std": (58.40, 57.12, 57.38)}

_FULL = FULL._replace(
    boundary={"branch_channels": 16, "pyramid_strides": (8, 16, 32)},
    scoring={"pooled_channels": 24, "channels": 24, "hidden": 256},
)

#: Options of a narrow model that learns from scratch on a CPU.
SMALL_YOLACT: dict[str, Any] = {
    "num_bases": 16,
    "head_strides": (8, 16, 32),
    "prototype_channels": 24,
    "prototype_convs": 2,
    "normalised": True,
}


@dataclass(frozen=True, kw_only=True)
class Yolact(BasisFamily):
    """YOLACT; with ``boundary`` and ``scoring`` it is B2Inst-YOLACT.

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
        normalised: Norms after the convolutions of prototypes and instance head, and coefficients
            that begin near 0; published without.
        pixels: ``mean`` and ``std`` of what the backbone was trained on (default: as published).
    """

    num_bases: int = 32
    size: int = 550
    keep_size: bool = False
    cross_class_nms: bool = False
    head_strides: Sequence[int] = ()
    prior_sizes: Sequence[float] | None = None
    prototype_channels: int = 256
    prototype_convs: int = 3
    normalised: bool = False
    pixels: Mapping[str, Any] | None = None

    _branch = BasisHead
    _assembler = LinearAssembler

    @property
    def preset(self) -> Preset:
        return _FULL if super().preset is FULL else SMALL

    def build(self, num_classes: int) -> BasisSegmenter:
        if self.boundary is not None and self.boundary.get("branch_channels") == 0:
            raise ValueError(
                "boundary: branch_channels 0 would make a prototype the boundary, and prototypes "
                "are never negative; give the boundary a branch of its own"
            )
        return super().build(num_classes)

    def _backbone(self) -> Any:
        return self._build_backbone(YolactFPN)

    def _preprocessor(self) -> Preprocessor:
        pixels = self.pixels or YOLACT_RGB
        if self.keep_size:
            return Preprocessor(**pixels, shorter=None, longer_max=None)
        return SquarePreprocessor(**pixels, side=self.size)

    def _basis_head(self, *, num_bases: int, **shared: int) -> PrototypeHead:
        stride = self.preset.basis_strides[0]
        cell = None if self.keep_size else self.size / -(-self.size // stride)
        auxiliary = ClassMapHead(**shared, cell=cell) if self.preset.auxiliary else None
        return PrototypeHead(
            in_channels=shared["in_channels"],
            num_bases=num_bases,
            stride=stride,
            cell=None if cell is None else cell / 2,
            channels=self.prototype_channels,
            num_convs=self.prototype_convs,
            norm=nn.BatchNorm2d if self.normalised else None,
            auxiliary=auxiliary,
        )

    def _instance_head(
        self, *, strides: Sequence[int], in_channels: int, **arguments: int
    ) -> PriorBoxHead:
        return PriorBoxHead(
            in_channels=in_channels,
            side=self.size,
            square=not self.keep_size,
            strides=self.head_strides or strides,
            scales=self.prior_sizes or self._prior_sizes(),
            norm=partial(nn.GroupNorm, in_channels // 4) if self.normalised else None,
            coefficient_gain=0.1 if self.normalised else 1.0,
            nms=cross_class_fast_nms if self.cross_class_nms else fast_nms,
            **arguments,
        )

    def _prior_sizes(self) -> tuple[float, ...]:
        if self.preset is SMALL:
            return tuple(size * self.size / 96 for size in (20, 36, 64))
        # As published for 700 pixels, too: in proportion, and cut to whole pixels.
        return tuple(size * self.size // 550 for size in (24, 48, 96, 192, 384))
