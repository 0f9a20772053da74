"""B2Inst: boundary bases for instance segmentation."""

from __future__ import annotations

from b2inst.api import Segmenter, create_model, load_model
from b2inst.models import BasisSegmenter
from b2inst.result import Result
from b2inst.structures import Instances
from b2inst.weights import save_model

__all__ = [
    "BasisSegmenter",
    "Instances",
    "Result",
    "Segmenter",
    "create_model",
    "load_model",
    "save_model",
]
