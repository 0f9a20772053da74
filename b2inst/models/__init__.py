"""Assembly of parts to models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2inst.lazy import lazy_names

if TYPE_CHECKING:
    from b2inst.models.basis_segmenter import BasisSegmenter, with_bases
    from b2inst.models.catalog import CATALOG, PRETRAINED, TWO_STAGE, baseline_of, create_model
    from b2inst.models.segmenter import (
        Explanation,
        NeedsTruthError,
        NoBasesError,
        Segmenter,
        mask_score,
    )
    from b2inst.models.two_stage import TwoStageSegmenter

__all__ = [
    "CATALOG",
    "PRETRAINED",
    "TWO_STAGE",
    "BasisSegmenter",
    "Explanation",
    "NeedsTruthError",
    "NoBasesError",
    "Segmenter",
    "TwoStageSegmenter",
    "baseline_of",
    "create_model",
    "mask_score",
    "with_bases",
]

__getattr__, __dir__ = lazy_names(__name__, __file__)
