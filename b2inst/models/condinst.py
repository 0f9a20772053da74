"""CondInst (Tian et al., ECCV 2020), and B2Inst on top of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from b2inst.models.basis_segmenter import BasisSegmenter
from b2inst.models.building import FCOSFamily, PartSeeds
from b2inst.modules.backbones import ResNetFPN
from b2inst.modules.basis_heads import MaskBranch
from b2inst.modules.dynamic_mask_head import DynamicMaskHead, at_random, best_of_objects
from b2inst.modules.fcos_head import CondInstHead
from b2inst.modules.semantic_heads import FocalSemanticHead


@dataclass(frozen=True, kw_only=True)
class CondInst(FCOSFamily):
    """CondInst; with ``boundary`` and ``scoring`` it is B2Inst-CondInst.

    Args:
        semantic: train a semantic segmentation beside the bases, as published ``_sem`` models do.
        best_per_image: masks to train per image, of its best predicted positives (default: all, or
            250 at random of an image that has more).
    """

    num_bases: int = 8
    basis_convs: int = 4
    semantic: bool = False
    best_per_image: int | None = None

    def build(self, num_classes: int) -> BasisSegmenter:
        """A model with fresh weights."""
        seeds = PartSeeds()
        backbone = self._build_backbone(seeds, ResNetFPN, stride_in_1x1=self.msra)

        def basis_head(num_bases: int) -> MaskBranch:
            auxiliary = None
            # Drawn even if unused: the weights of the mask branch must not depend on ``semantic``.
            if self.preset.auxiliary or self.semantic:
                auxiliary = FocalSemanticHead(
                    in_channels=backbone.out_channels, num_classes=num_classes
                )
            return MaskBranch(
                num_bases=num_bases,
                auxiliary=auxiliary if self.semantic else None,
                **self._basis_options(backbone),
            )

        sample = at_random
        if self.best_per_image is not None:
            sample = partial(best_of_objects, per_image=self.best_per_image)
        return self._build_segmenter(
            seeds,
            preprocessor=self._build_preprocessor(),
            backbone=backbone,
            basis_head=basis_head,
            branch=MaskBranch,
            assembler=partial(DynamicMaskHead, sample=sample),
            instance_head=partial(CondInstHead, **self._head_options(backbone, num_classes)),
        )
