"""What data a run is trained and evaluated on."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from b2inst.data import SCENES_VERSION, DataError, find_split, find_splits
from b2inst.data.layout import split_of
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.yaml_spec import Spec

#: ``train`` is learned from, ``val`` is tuned on, ``test`` is reported on.
SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ScenesSplit(Spec):
    """Procedural scenes made from one seed."""

    images: PositiveInt
    seed: NonNegativeInt


class _Data(Spec):
    """Data, with settings of their evaluation, which are no part of what the data are."""

    #: Areas in pixels² where medium and large instances begin.
    area_bounds: tuple[float, float] = (32**2, 96**2)
    #: Width of the boundaries that are compared, instead of a share of the image's diagonal.
    boundary_pixels: PositiveInt | None = None


class ScenesData(_Data):
    """Square procedural scenes, which are written if they are missing."""

    kind: Literal["scenes"] = "scenes"
    version: str = SCENES_VERSION
    size: int = Field(ge=32)  #: side of an image in pixels
    train: ScenesSplit
    val: ScenesSplit
    test: ScenesSplit

    @model_validator(mode="after")
    def _splits_differ(self) -> Self:
        seeds = [self.train.seed, self.val.seed, self.test.seed]
        if len(set(seeds)) < 3:
            raise ValueError(f"train, val and test have seeds {seeds}: give each split its own")
        return self

    @property
    def report_split(self) -> SplitName:
        """The split that tables report on."""
        return "test"

    def tuning_split(self, split: SplitName) -> SplitName | None:
        """Return the split that score thresholds for ``split`` are chosen on, if there is one."""
        return None

    def split_label(self, split: SplitName) -> str:
        """Return the name of the split on disk and in tables."""
        return split

    @property
    def name(self) -> str:
        """Folder name: the generator's version, the size, and a digest of counts and seeds."""
        counts = [(getattr(self, s).images, getattr(self, s).seed) for s in SPLITS]
        digest = hashlib.sha256(repr((self.version, self.size, counts)).encode()).hexdigest()
        return f"{self.version}-{self.size}px-{digest[:8]}"

    def identity(self) -> dict[str, Any]:
        """What decides the images; how they are evaluated does not."""
        return self.model_dump(mode="json", exclude={"area_bounds", "boundary_pixels"})


class CocoData(_Data):
    """A COCO-format folder, in one of the layouts of ``b2inst.data.find_splits``.

    The content of the annotation files is hashed, not where they are: a folder may be moved.
    """

    kind: Literal["coco"] = "coco"
    root: Path | None = None
    #: Splits by name, or as ``ANNOTATIONS.json:IMAGES``.
    train: str = "train2017"
    val: str = "val2017"
    test: str | None = None  #: reported on, if given
    obtain: str | None = None  #: what to do if the folder is missing
    skip_bad: bool = False  #: leave out what cannot be used instead of stopping
    crowds_as_instances: bool = False  #: read annotations with iscrowd 1 as single objects
    #: Share of the images that is held out for validation, if train and val are one split.
    val_fraction: float | None = Field(default=None, gt=0, lt=1)
    #: Of the annotation file of each split; filled in by ``identified``.
    sha256: dict[str, str] = Field(default_factory=dict)

    @property
    def report_split(self) -> SplitName:
        return "val" if self.test is None else "test"

    def tuning_split(self, split: SplitName) -> SplitName | None:
        return "val" if split == "test" else None

    def split_label(self, split: SplitName) -> str:
        part = self._part(split)
        return split if ".json:" in part or self.val_fraction is not None else part

    @property
    def name(self) -> str:
        return "-".join(["coco", *(digest[:8] for digest in self.sha256.values())])

    def files(self, split: SplitName, *, with_images: bool = True) -> tuple[Path, Path]:
        """Return the annotation file and the image folder, which must exist ``with_images``."""
        part = self._part(split)
        if self.root is None and ".json:" not in part:
            raise SpecError("this needs a COCO-format folder (docs/data.md): give --data DIR")
        return find_split(self.root or Path(), part, with_images=with_images)

    def identified(self) -> CocoData:
        """Return a copy with the SHA-256 of the annotation files."""
        splits = SPLITS if self.test is not None else SPLITS[:2]
        try:
            sha256 = {split: file_sha256(self.files(split)[0]) for split in splits}
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from None
        return self.model_copy(update={"sha256": sha256})

    def identity(self) -> dict[str, Any]:
        """What decides the images and annotations of ``identified`` data."""
        content = self.model_dump(include={"kind", "skip_bad", "sha256"})
        later = self.model_dump(include={"crowds_as_instances", "val_fraction"})
        return content | {name: value for name, value in later.items() if value}

    def _part(self, split: SplitName) -> str:
        part: str | None = getattr(self, split)
        if part is None:
            raise SpecError("COCO-format data has train and val here; evaluate on --split val")
        return part


DataSpec = Annotated[ScenesData | CocoData, Field(discriminator="kind")]


def coco_folder(
    root: Path,
    *,
    train: str | None = None,
    val: str | None = None,
    skip_bad: bool = False,
    crowds_as_instances: bool = False,
    val_fraction: float | None = None,
    training: bool = True,
) -> CocoData:
    """Describe a COCO-format folder (see ``CocoData``); splits that are not named are found.

    Without ``training`` only the validation split is used, and no other need exist.

    Raises:
        DataError: The folder has no annotations in a known layout.
        SpecError: It is not clear which split is meant.
    """
    if val_fraction is not None and val is not None:
        raise SpecError("--val-fraction holds out training images: leave out --val-split, --split")
    if val_fraction is not None:
        learned = tuned = train or _split(root, "train", alone=True)
    else:
        tuned = val or _split(root, "val")
        learned = (train or _split(root, "train")) if training else tuned
        if training and learned == tuned:
            warnings.warn(f"{root}: training and validation images are the same", stacklevel=2)
    return CocoData(
        root=root.resolve(),  # a run's spec is read again from other folders
        train=learned,
        val=tuned,
        skip_bad=skip_bad,
        crowds_as_instances=crowds_as_instances,
        val_fraction=val_fraction,
    )


def _split(root: Path, role: str, *, alone: bool = False) -> str:
    """The split of the usual name; ``alone``: or the only one."""
    splits = find_splits(root)
    if name := split_of(role, splits):
        return name
    if len(splits) > 1:
        raise SpecError(
            f"{root}: which split is for {role}? It has {', '.join(splits)}; name one with "
            f"--{role}-split (or ANNOTATIONS.json:IMAGE_FOLDER for another layout)"
        )
    if not alone:
        raise SpecError(
            f"{root}: its only split is {splits[0]!r}; hold out a part of its images for "
            "validation with --val-fraction 0.2, or name another one with "
            f"--{role}-split ANNOTATIONS.json:IMAGE_FOLDER"
        )
    return splits[0]
