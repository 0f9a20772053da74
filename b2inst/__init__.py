"""B2Inst: boundary bases for instance segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2inst.lazy import lazy_names

if TYPE_CHECKING:
    from b2inst.models import BasisSegmenter as BasisSegmenter
    from b2inst.models import Segmenter as Segmenter
    from b2inst.models import create_model as create_model
    from b2inst.result import Result as Result
    from b2inst.structures import Instances as Instances
    from b2inst.version import __version__ as __version__
    from b2inst.weights import load_model as load_model
    from b2inst.weights import save_model as save_model

__getattr__, __dir__ = lazy_names(__name__, __file__)
