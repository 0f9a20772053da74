"""Weights in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2inst.lazy import lazy_names

if TYPE_CHECKING:
    from b2inst.weights.errors import WeightsError
    from b2inst.weights.files import load_model, save_model
    from b2inst.weights.start import start_from

__all__ = ["WeightsError", "load_model", "save_model", "start_from"]

__getattr__, __dir__ = lazy_names(__name__, __file__)
