"""From a data spec to images on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from b2inst.data import (
    SCENES_VERSION,
    CocoIndex,
    DataError,
    hold_out,
    verify_images,
    write_scenes,
)
from b2inst.experiments.runs.store import write_json
from b2inst.experiments.specs.data_spec import SPLITS, CocoData, ScenesData, SplitName
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.run_spec import Augmentation

if TYPE_CHECKING:
    from b2inst.data import CocoDataset

#: Training sets whose decoded images and masks take no more than this are kept in memory.
_CACHED_BYTES = 500e6

#: The classes of the example, and the scenes' classes that each is made of.
GROUPS = {
    "jagged": ("star", "gear"),
    "round": ("crescent", "blob", "ring"),
    "drawn": ("leaf", "letter", "figure"),
}


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
        part = getattr(data, split)
        write_scenes(folder / data.name, split=split, size=data.size, **part.model_dump())
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

    With ``verify`` or ``skip_bad``, each image is read too, with a bar if ``progress``.

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
    """Return the images of a split as a model with a preprocessor of ``fixed_size`` is trained."""
    from b2inst.data import CocoDataset, train_transforms  # import PyTorch

    decoded = (i.height * i.width * (4 + len(index.annotations[i.id])) for i in index.images)
    options = augmentation.model_dump() | {"shorter": augmentation.shorter or None}
    flip = options.pop("horizontal_flip")
    transforms = train_transforms(**options, flip=flip, fixed_size=fixed_size)
    return CocoDataset(
        index,
        transforms,
        tight_boxes=augmentation.crop is not None,
        cache=sum(decoded) <= _CACHED_BYTES,
    )


def write_example(root: Path) -> Path:
    """Write ten scenes a split with the classes ``GROUPS`` to a COCO-format folder, and return it.

    Splits that are there already stay.
    """
    for split, seed in (("train", 103), ("val", 104)):  # seeds of no profile
        if (root / f"annotations/instances_{split}.json").is_file():
            continue
        file = write_scenes(root, split=split, images=10, size=96, seed=seed)
        content = json.loads(file.read_text(encoding="utf-8"))
        names = {category["id"]: category["name"] for category in content["categories"]}
        group_of = {name: i for i, group in enumerate(GROUPS.values(), 1) for name in group}
        for annotation in content["annotations"]:
            annotation["category_id"] = group_of[names[annotation["category_id"]]]
        content["categories"] = [{"id": i, "name": name} for i, name in enumerate(GROUPS, 1)]
        write_json(file, content)
    return root
