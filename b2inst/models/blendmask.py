"""BlendMask (Chen et al., CVPR 2020), and B2Inst on top of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from b2inst.models.basis_segmenter import BasisSegmenter
from b2inst.models.building import FCOSFamily, PartSeeds
from b2inst.modules.backbones import ResNetFPN
from b2inst.modules.basis_heads import BasisHead
from b2inst.modules.blender import Blender
from b2inst.modules.boundary_basis import OracleBoundary
from b2inst.modules.fcos_head import FCOSHead
from b2inst.modules.semantic_heads import SemanticHead


@dataclass(frozen=True, kw_only=True)
class BlendMask(FCOSFamily):
    """BlendMask; with ``boundary`` and ``scoring`` it is B2Inst-BlendMask.

    Args:
        attention_size: A; 7 in the paper, 14 in the published BlendMask.
        oracle: arguments of ``OracleBoundary``, the true boundary in place of a predicted one, for
            experiments.
        top_levels: levels of a ResNet's pyramid above P5: 2 (default), or 1 to leave out P7.
        shared_convs: convolutions of the instance head before its two towers.
        basis_stride: of the grid of the bases, in pixels.
        roi_size: R, side of the masks in cells.
    """

    num_bases: int = 4
    attention_size: int = 7
    oracle: Mapping[str, Any] | None = None
    top_levels: int | None = None
    shared_convs: int = 0
    basis_stride: int = 4
    roi_size: int = 56

    def build(self, num_classes: int) -> BasisSegmenter:
        """A model with fresh weights."""
        seeds = PartSeeds()
        backbone = self._build_backbone(
            seeds, ResNetFPN, stride_in_1x1=self.msra, top_levels=self.top_levels
        )
        upsampling = self.preset.basis_strides[0] // self.basis_stride
        branch = partial(BasisHead, upsampling=upsampling)

        def basis_head(num_bases: int) -> BasisHead:
            auxiliary = None
            if self.preset.auxiliary:
                auxiliary = SemanticHead(in_channels=backbone.out_channels, num_classes=num_classes)
            return branch(num_bases=num_bases, auxiliary=auxiliary, **self._basis_options(backbone))

        return self._build_segmenter(
            seeds,
            preprocessor=self._build_preprocessor(),
            backbone=backbone,
            basis_head=basis_head,
            branch=branch,
            assembler=partial(Blender, attention_size=self.attention_size, roi_size=self.roi_size),
            instance_head=partial(
                FCOSHead,
                num_shared_convs=self.shared_convs,
                **self._head_options(backbone, num_classes),
            ),
            oracle=None if self.oracle is None else OracleBoundary(**self.oracle),
        )
