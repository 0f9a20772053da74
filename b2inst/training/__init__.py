"""Training: a visible loop that can stop and go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from b2inst.lazy import lazy_names

if TYPE_CHECKING:
    from b2inst.training.checkpoints import CheckpointError
    from b2inst.training.loop import NonFiniteLossError, train
    from b2inst.training.schedule import Schedule

__all__ = ["CheckpointError", "NonFiniteLossError", "Schedule", "train"]

__getattr__, __dir__ = lazy_names(__name__, __file__)
