"""B2Inst: boundary bases for instance segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2inst.lazy import lazy_names

if TYPE_CHECKING:
    from b2inst.models import BasisSegmenter, Segmenter, create_model
    from b2inst.result import Result
    from b2inst.structures import Instances
    from b2inst.weights import load_model, save_model

__all__ = [
    "BasisSegmenter",
    "Instances",
    "Result",
    "Segmenter",
    "create_model",
    "load_model",
    "save_model",
]

__getattr__, __dir__ = lazy_names(__name__, __file__)
