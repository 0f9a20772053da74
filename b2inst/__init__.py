"""B2Inst: boundary bases for instance segmentation."""

from __future__ import annotations

from b2inst.models import BasisSegmenter, create_model
from b2inst.structures import Instances
from b2inst.weights import load_model, save_model

__all__ = ["BasisSegmenter", "Instances", "create_model", "load_model", "save_model"]
