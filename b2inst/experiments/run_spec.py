"""What a run is: everything that decides its weights, and nothing else."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, NonNegativeInt, PositiveInt

from b2inst.experiments.data_spec import DataSpec
from b2inst.experiments.start_file import StartFile
from b2inst.experiments.yaml_spec import Spec
from b2inst.training import Schedule

Probability = Annotated[float, Field(ge=0, le=1)]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


class Augmentation(Spec):
    """How training images vary: a shorter side drawn from several, flips.

    A model whose images all have one size, as YOLACT's, is trained at that size.
    """

    shorter: tuple[PositiveInt, ...] = Field(min_length=1)  #: pixels; one is drawn for each image
    longer_max: PositiveInt  #: pixels; caps the longer side
    horizontal_flip: Probability = 0.5
    vertical_flip: Probability = 0.0  #: for scenes, which have no up
    transpose: Probability = 0.0
    ssd: bool = False  #: colours, expansion and crops as SSD and YOLACT vary them, too


#: Keys that came later: a run that leaves them at their defaults is the one it was without them.
_LATER = (("augmentation", "ssd", False), ("schedule", "aspect_grouping", False))


class RunSpec(Spec):
    """One training: model, data, schedule and seed.

    Two specs with the same ``hash`` are the same run. How often a run logs, on which split it is
    evaluated and where its data lie are not part of what it is.
    """

    model: str  #: name in the catalog, e.g. "b2inst-blendmask-tiny"
    options: dict[str, JsonValue] = Field(default_factory=dict)  #: arguments of its builder
    data: DataSpec
    augmentation: Augmentation
    schedule: Schedule
    precision: Precision = "32-true"
    seed: NonNegativeInt
    start: StartFile | None = None  #: weights of another model to begin with

    def with_sides(self, shorter: tuple[int, ...]) -> RunSpec:
        """The same run with the shorter side of each image drawn from these, in pixels."""
        changed = self.augmentation.model_copy(update={"shorter": shorter})
        return self.model_copy(update={"augmentation": changed})

    def identity(self) -> dict[str, Any]:
        """What is hashed, as JSON values."""
        content = self.model_dump(mode="json", exclude={"data", "start"})
        if self.start is not None:
            content["start"] = self.start.sha256
        for habit in ("log_every", "checkpoint_every"):
            content["schedule"].pop(habit, None)
        for part, key, default in _LATER:
            if content[part][key] == default:
                del content[part][key]
        return {**content, "data": self.data.identity()}

    @property  # not cached: a copy with changes would keep the hash
    def hash(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of the identity's canonical JSON."""
        text = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]
