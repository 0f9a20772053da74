"""CondInst (Tian et al., ECCV 2020), and B2Inst on top of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from b2inst.models.building import FCOSFamily
from b2inst.modules.backbones import ResNetFPN
from b2inst.modules.basis_heads import MaskBranch
from b2inst.modules.dynamic_mask_head import DynamicMaskHead, at_random, best_of_objects
from b2inst.modules.fcos_head import CondInstHead
from b2inst.modules.semantic_heads import FocalSemanticHead


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

    _branch = MaskBranch

    def _backbone(self) -> Any:
        return self._build_backbone(ResNetFPN, stride_in_1x1=self.msra)

    def _auxiliary(self, **shared: int) -> FocalSemanticHead | None:
        # Drawn even if unused: the weights of the mask branch must not depend on ``semantic``.
        drawn = FocalSemanticHead(**shared) if self.preset.auxiliary or self.semantic else None
        return drawn if self.semantic else None

    def _assembler(self, **arguments: Any) -> DynamicMaskHead:
        sample = at_random
        if self.best_per_image is not None:
            sample = partial(best_of_objects, per_image=self.best_per_image)
        return DynamicMaskHead(sample=sample, **arguments)

    def _instance_head(self, *, strides: Sequence[int], **arguments: Any) -> CondInstHead:
        return CondInstHead(**self._head_options(strides), **arguments)
