"""What a run is: everything that decides its weights, and nothing else."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    JsonValue,
    NonNegativeFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from b2inst.experiments.specs.data_spec import DataSpec, file_sha256
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.yaml_spec import Spec
from b2inst.training import Schedule

#: Detections per image by COCO's rules.
COCO_MAX_DETECTIONS = 100

Probability = Annotated[float, Field(ge=0, le=1)]
#: As NumPy takes them.
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


class Augmentation(Spec):
    """How training images vary; models of one image size, as YOLACT, are trained at that size."""

    #: Pixels; one is drawn for each image. Without them images keep their size.
    shorter: tuple[PositiveInt, ...] = ()
    longer_max: PositiveInt | None = None  #: pixels; caps the longer side
    crop: PositiveInt | None = None  #: side in pixels of a random square that is cut out
    horizontal_flip: Probability = 0.5
    vertical_flip: Probability = 0.0  #: for scenes, which have no up
    transpose: Probability = 0.0
    invert: Probability = 0.0  #: bright becomes dark
    brightness: Probability = 0.0  #: largest relative change
    contrast: Probability = 0.0  #: largest relative change
    blur: NonNegativeFloat = 0.0  #: pixels; largest standard deviation, for half of the images
    ssd: bool = False  #: colours, expansion and crops as SSD and YOLACT vary them, too

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if bool(self.shorter) != (self.longer_max is not None):
            raise ValueError("shorter and longer_max go together: give both, or none of them")
        if not self.shorter and self.crop is None:
            raise ValueError("images of different sizes make no batch: give shorter, or crop")
        return self


class StartFile(Spec):
    """A weights file, identified by its content."""

    path: Path
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Self:
        """Describe a file as it is now."""
        if not path.is_file():
            raise SpecError(f"{path}: no such weights file to start from")
        return cls(path=path.resolve(), sha256=file_sha256(path))

    def unchanged(self) -> Path:
        """Return the path; a SpecError if the file has changed since the run was begun."""
        if self.of(self.path).sha256 != self.sha256:
            raise SpecError(
                f"{self.path}: is not the file that the run started from; restore it, or start "
                "another run with --start"
            )
        return self.path


#: Keys that were added later: at their defaults, they do not change the hash of a run.
_LATER: dict[str, dict[str, Any]] = {
    "augmentation": {
        "ssd": False, "crop": None, "invert": 0.0, "brightness": 0.0, "contrast": 0.0, "blur": 0.0
    },
    "schedule": {"aspect_grouping": False},
}  # fmt: skip


class RunSpec(Spec):
    """One training: model, data, schedule and seed.

    How often it logs, how it is evaluated, and where its data are does not belong to its ``hash``.
    """

    model: str  #: name in the catalog, e.g. "b2inst-blendmask-tiny"
    options: dict[str, JsonValue] = Field(default_factory=dict)  #: arguments of its builder
    data: DataSpec
    augmentation: Augmentation
    schedule: Schedule
    precision: Precision = "32-true"
    seed: Seed
    start: StartFile | None = None  #: weights of another model to begin with
    name: str | None = None  #: of its folder (default: its hash)
    row: str | None = None  #: of the table that began it: "table1 · HBB"

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
            raise ValueError(f"name {name!r}: use letters, digits, '.', '_' and '-'")
        return name

    @property
    def max_detections(self) -> int:
        """Detections per image that the model may find and that are evaluated."""
        limit: Any = self.options.get("max_detections", COCO_MAX_DETECTIONS)
        return int(limit)

    @property
    def _size_option(self) -> str:
        from b2inst.models import options_of  # specs are read without PyTorch

        return "size" if "size" in options_of(self.model) else "shorter"

    @property
    def image_size(self) -> int:
        """Pixels of the size that ``with_image_size`` changes."""
        now: Any = self.augmentation.crop or self.options.get(self._size_option)
        return int(now or max(self.augmentation.shorter))

    def with_image_size(self, size: int) -> RunSpec:
        """Return the same run at another image size; other sizes change in proportion.

        The size is in pixels, of the shorter side that ``predict`` looks at (of both sides for
        YOLACT), or of the crops, for runs that train on crops.
        """
        old, options, now = self.augmentation, dict(self.options), self.image_size
        changes: dict[str, Any] = {"crop": size}
        if old.crop is None:
            longest: Any = options.get("longer_max") or old.longer_max
            options[self._size_option] = size
            if self._size_option == "shorter":
                options["longer_max"] = round(longest * size / now)
            changes = {
                "shorter": tuple(round(side * size / now) for side in old.shorter),
                "longer_max": round((old.longer_max or 0) * size / now),
            }
        changed = old.model_copy(update=changes)
        return self.model_copy(update={"options": options, "augmentation": changed})

    def identity(self) -> dict[str, Any]:
        """What is hashed, as JSON values."""
        content = self.model_dump(mode="json", exclude={"data", "start", "name", "row"})
        if self.start is not None:
            content["start"] = self.start.sha256
        for habit in ("log_every", "checkpoint_every", "eval_every"):
            del content["schedule"][habit]
        for part, defaults in _LATER.items():
            kept = {k: v for k, v in content[part].items() if k not in defaults or v != defaults[k]}
            content[part] = kept
        return {**content, "data": self.data.identity()}

    @property  # not cached: a copy with changes would keep the hash
    def hash(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of the identity's canonical JSON."""
        text = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]
