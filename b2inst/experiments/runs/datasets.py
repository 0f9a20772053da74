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
from b2inst.experiments.specs.data_spec import SPLITS, CocoData, ScenesData, SplitName
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.run_spec import Augmentation


def prepare(data: ScenesData | CocoData, folder: Path) -> ScenesData | CocoData:
    """Write scenes that are missing below ``folder``, or identify a COCO-format folder.

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
    for split in SPLITS:
        part, root = getattr(data, split), folder / data.name
        write_scenes(root, split=split, images=part.images, size=data.size, seed=part.seed)
    return data


def load_split(
    data: ScenesData | CocoData,
    split: SplitName,
    folder: Path,
    *,
    verify: bool = False,
    progress: bool = False,
) -> CocoIndex:
    """Read and check the annotations of a split of prepared data.

    With ``verify`` or ``skip_bad``, which leaves images out, also reads each image to its end, with
    a bar if ``progress``.

    Raises:
        DataError: It has errors, and ``skip_bad`` is not set; or it has no instances.
    """
    if isinstance(data, ScenesData):
        root = folder / data.name
        return CocoIndex.load(root / f"annotations/instances_{split}.json", root / split)
    files, crowds = data.files(split), data.crowds_as_instances
    index = CocoIndex.load(*files, skip_bad=data.skip_bad, crowds_as_instances=crowds)
    if verify or data.skip_bad:
        index = verify_images(index, skip_bad=data.skip_bad, progress=progress)
    if data.val_fraction is not None and split != "test":
        index = hold_out(index, data.val_fraction)[split == "val"]
    return index.require_instances()


def training_set(
    index: CocoIndex,
    augmentation: Augmentation,
    *,
    fixed_size: tuple[int, int] | None = None,
) -> CocoDataset:
    """Return the images of a split as training sees them.

    ``fixed_size`` is that of a model's preprocessor.
    """
    options = augmentation.model_dump() | {"shorter": augmentation.shorter or None}
    flip = options.pop("horizontal_flip")
    transforms = train_transforms(**options, flip=flip, fixed_size=fixed_size)
    return CocoDataset(index, transforms, tight_boxes=augmentation.crop is not None)
