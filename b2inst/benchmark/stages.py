"""Where the time of a prediction goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from b2inst.models import Segmenter

#: In order. "input" is resizing and normalising, "heads" ends with non-maximum suppression,
#: "paste" gives full-size masks, "RLE" their run-length codes.
STAGES = ("input", "backbone", "heads", "bases", "assembly", "scoring", "paste", "RLE")

#: What each stage calls: an attribute that segmenters of some kind have, and the method.
_CALLS = (
    ("backbone", "backbone", "forward"),
    ("heads", "instance_head", "forward"),
    ("heads", "instance_head", "detect"),
    ("heads", "detector", "detect"),
    ("bases", "basis_head", "forward"),
    ("assembly", "assembler", "assemble"),
    ("assembly", "mask_head", "forward"),
    ("scoring", "scoring_head", "forward"),
)


class StageClock:
    """Times the stages of a model's predictions by the parts that a segmenter has.

    A stage ends when its part returns; what comes between two parts belongs to the later one, so
    that the stages add up to the whole. The model keeps the clock: give it a copy of its own.

    Args:
        model: predicts one image at a time.
        now: seconds, after everything begun has ended.
    """

    def __init__(self, model: Segmenter, now: Callable[[], float]) -> None:
        self.now = now
        self.seconds: dict[str, float] = {}
        self._last = 0.0
        for stage, part, method in _CALLS:
            owner = getattr(model, part, None)
            if owner is not None:
                setattr(owner, method, self._timed(getattr(owner, method), stage))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Times what is done inside; ``seconds`` by stage are complete when it is left."""
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._last = self.now()
        yield
        self.lap("RLE")

    def lap(self, stage: str) -> None:
        """All time since the last lap belongs to ``stage``."""
        now = self.now()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now

    def _timed(self, call: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            if stage == "backbone":
                self.lap("input")
            result = call(*args, **kwargs)
            self.lap(stage)
            return result

        return timed
