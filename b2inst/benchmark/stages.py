"""Time of a prediction by stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

#: In order. "input" is resizing and normalising, "heads" ends with non-maximum suppression,
#: "paste" makes full-size masks, "RLE" encodes them.
STAGES = ("input", "backbone", "heads", "bases", "assembly", "scoring", "paste", "RLE")

#: Stage, attribute of a segmenter (if it has it) and method of that part.
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
    """Time the stages of a model's predictions.

    A stage ends when its part returns; the time between two parts belongs to the later one, so the
    stages add up to the total. The model is modified.

    Args:
        model: Model that predicts one image at a time.
        now: Clock in seconds, synchronised with the device.
    """

    def __init__(self, model: Any, now: Callable[[], float]) -> None:
        self.now = now
        self.seconds: dict[str, float] = {}
        self._last = 0.0
        for stage, part, method in _CALLS:
            owner = getattr(model, part, None)
            if owner is not None:
                setattr(owner, method, self._timed(getattr(owner, method), stage))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time the code inside; afterwards ``seconds`` are the seconds by stage."""
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._last = self.now()
        yield
        self.lap("RLE")

    def lap(self, stage: str) -> None:
        """Add the time since the last lap to ``stage``."""
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
