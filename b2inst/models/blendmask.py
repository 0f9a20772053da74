"""BlendMask (Chen et al., CVPR 2020), and B2Inst on top of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from b2inst.models.building import FCOSFamily
from b2inst.modules.backbones import ResNetFPN
from b2inst.modules.basis_heads import BasisHead
from b2inst.modules.blender import Blender
from b2inst.modules.fcos_head import FCOSHead
from b2inst.modules.semantic_heads import SemanticHead


@dataclass(frozen=True, kw_only=True)
class BlendMask(FCOSFamily):
    """BlendMask; with ``boundary`` and ``scoring`` it is B2Inst-BlendMask.

    Args:
        attention_size: A; 7 in the paper, 14 in the published BlendMask.
        top_levels: Levels of a ResNet's pyramid above P5: 2 (default), or 1 to leave out P7.
        shared_convs: Convolutions of the instance head before its two towers.
        basis_stride: Of the grid of the bases, in pixels.
        roi_size: R, side of the masks in cells.
    """

    num_bases: int = 4
    attention_size: int = 7
    top_levels: int | None = None
    shared_convs: int = 0
    basis_stride: int = 4
    roi_size: int = 56

    def _backbone(self) -> Any:
        return self._build_backbone(ResNetFPN, stride_in_1x1=self.msra, top_levels=self.top_levels)

    def _branch(self, **arguments: Any) -> BasisHead:
        upsampling = self.preset.basis_strides[0] // self.basis_stride
        return BasisHead(upsampling=upsampling, **arguments)

    def _auxiliary(self, **shared: int) -> SemanticHead | None:
        return SemanticHead(**shared) if self.preset.auxiliary else None

    def _assembler(self, **arguments: Any) -> Blender:
        return Blender(attention_size=self.attention_size, roi_size=self.roi_size, **arguments)

    def _instance_head(self, *, strides: Sequence[int], **arguments: Any) -> FCOSHead:
        return FCOSHead(
            num_shared_convs=self.shared_convs, **self._head_options(strides), **arguments
        )
