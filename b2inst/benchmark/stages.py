"""Time of a prediction by stage."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

from b2inst.benchmark.dummy import DummyDetections
from b2inst.benchmark.samples import Sample
from b2inst.models import Segmenter
from b2inst.ops.masks import encode_rle

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


class Timing(NamedTuple):
    """What one prediction took."""

    seconds: dict[str, float]  #: by stage of ``STAGES``
    detections: int
    network_size: tuple[int, int]  #: (height, width) of the padded image in the network

    @property
    def total(self) -> float:
        """Seconds of the whole prediction."""
        return sum(self.seconds.values())


class TimedModel:
    """Time a model's predictions by stage, from the image to the run-length codes of its masks.

    A stage ends when its part returns; the time between two parts belongs to the later one, so the
    stages add up to the total. The model is modified.
    """

    def __init__(
        self,
        model: Segmenter,
        *,
        dummies: DummyDetections | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.model, self.dummies, self._clock = model, dummies, clock
        self._seconds: dict[str, float] = {}
        self._last = 0.0
        self._network_size = (0, 0)
        for stage, part, method in _CALLS:
            owner = getattr(model, part, None)
            if owner is not None:
                setattr(owner, method, self._timed(getattr(owner, method), stage))
        model.backbone.register_forward_pre_hook(self._begin_backbone)

    def predict(self, sample: Sample) -> Timing:
        """Predict one image."""
        if self.dummies is not None:
            self.dummies.sample = sample
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._last = self._clock()
        (found,) = self.model.predict([sample.image])
        self._lap("paste")
        encode_rle(found.masks)
        self._lap("RLE")
        return Timing(self._seconds, len(found), self._network_size)

    def _begin_backbone(self, _module: Any, inputs: Any) -> None:
        self._lap("input")
        self._network_size = tuple(inputs[0].shape[-2:])

    def _lap(self, stage: str) -> None:
        now = self._clock()
        self._seconds[stage] += now - self._last
        self._last = now

    def _timed(self, call: Callable[..., Any], stage: str) -> Callable[..., Any]:
        @wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            self._lap(stage)
            return result

        return timed
