"""Assembly of parts to models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2inst.lazy import lazy_names

if TYPE_CHECKING:
    from b2inst.models.basis_segmenter import BasisSegmenter as BasisSegmenter
    from b2inst.models.basis_segmenter import with_bases as with_bases
    from b2inst.models.catalog import CATALOG as CATALOG
    from b2inst.models.catalog import PRETRAINED as PRETRAINED
    from b2inst.models.catalog import WITHOUT_BASES as WITHOUT_BASES
    from b2inst.models.catalog import baseline_of as baseline_of
    from b2inst.models.catalog import create_model as create_model
    from b2inst.models.catalog import options_of as options_of
    from b2inst.models.segmenter import Explanation as Explanation
    from b2inst.models.segmenter import ModelError as ModelError
    from b2inst.models.segmenter import Segmenter as Segmenter
    from b2inst.models.segmenter import mask_score as mask_score
    from b2inst.models.two_stage import TwoStageSegmenter as TwoStageSegmenter

__getattr__, __dir__ = lazy_names(__name__, __file__)
