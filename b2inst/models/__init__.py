"""Assembly of parts to models."""

from __future__ import annotations

from b2inst.models.catalog import CATALOG, create_model
from b2inst.models.segmenter import BasisSegmenter, Explanation, mask_score

__all__ = ["CATALOG", "BasisSegmenter", "Explanation", "create_model", "mask_score"]
