"""Training loop with checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2inst.lazy import lazy_names

if TYPE_CHECKING:
    from b2inst.training.checkpoints import CheckpointError as CheckpointError
    from b2inst.training.loop import NonFiniteLossError as NonFiniteLossError
    from b2inst.training.loop import train as train
    from b2inst.training.schedule import Schedule as Schedule

__getattr__, __dir__ = lazy_names(__name__, __file__)
