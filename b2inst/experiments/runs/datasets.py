"""From a data spec to images on disk."""

from __future__ import annotations

from pathlib import Path

from b2inst.data import (
    SCENES_VERSION,
    CocoDataset,
    CocoIndex,
    DataError,
    hold_out,
    train_transforms,
    verify_images,
    write_scenes,
)
from b2inst.experiments.specs.data_spec import CocoData, ScenesData, SplitName
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.run_spec import Augmentation


def prepare(data: ScenesData | CocoData, folder: Path) -> ScenesData | CocoData:
    """Write scenes that are missing; identify a COCO-format folder by its content.

    Args:
        folder: Where procedural scenes are written, in a folder of their own.

    Raises:
        SpecError: The scenes are of another version of the generator.
        DataError: The folder does not exist.
    """
    if isinstance(data, CocoData):
        if data.obtain is not None and data.root is not None and not data.root.is_dir():
            raise DataError(f"{data.root}: no such folder; {data.obtain}")
        return data.identified()
    if data.version != SCENES_VERSION:
        raise SpecError(
            f"data.version: these scenes are {data.version}, but this package generates "
            f"{SCENES_VERSION}; use the release of b2inst that generates them, or omit the key"
        )
    for split in ("train", "val", "test"):
        part = getattr(data, split)
        write_scenes(
            folder / data.name, split=split, images=part.images, size=data.size, seed=part.seed
        )
    return data


def load_split(
    data: ScenesData | CocoData, split: SplitName, folder: Path, *, verify: bool = False
) -> CocoIndex:
    """Read and check the annotations of a split of prepared data.

    Args:
        verify: Also read each image of a COCO-format folder to its end. With ``skip_bad`` this is
            always done, since it decides which images are left out.

    Raises:
        DataError: It has errors, and ``skip_bad`` is not set; or it has no instances.
    """
    if isinstance(data, CocoData):
        index = CocoIndex.load(
            *data.files(split),
            skip_bad=data.skip_bad,
            crowds_as_instances=data.crowds_as_instances,
        )
        if verify or data.skip_bad:
            index = verify_images(index, skip_bad=data.skip_bad)
        if data.val_fraction is not None:
            parts = dict(zip(("train", "val"), hold_out(index, data.val_fraction), strict=True))
            index = parts[split]
        return index.require_instances()
    root = folder / data.name
    return CocoIndex.load(root / f"annotations/instances_{split}.json", root / split)


def training_set(
    index: CocoIndex,
    augmentation: Augmentation,
    *,
    cache: bool,
    fixed_size: tuple[int, int] | None = None,
) -> CocoDataset:
    """Return the images of a split as training sees them.

    Args:
        cache: Keep decoded images in memory.
        fixed_size: Of a model that takes images of one size only (its preprocessor says so).
    """
    options = augmentation.model_dump() | {"shorter": augmentation.shorter or None}
    flip = options.pop("horizontal_flip")
    transforms = train_transforms(**options, flip=flip, fixed_size=fixed_size)
    return CocoDataset(index, transforms, tight_boxes=augmentation.crop is not None, cache=cache)
