"""Weights in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2inst.lazy import lazy_names

if TYPE_CHECKING:
    from b2inst.weights.errors import WeightsError as WeightsError
    from b2inst.weights.files import load_model as load_model
    from b2inst.weights.files import save_model as save_model
    from b2inst.weights.start import start_from as start_from

__getattr__, __dir__ = lazy_names(__name__, __file__)
