"""How much of COCO 2017 a folder holds."""

from __future__ import annotations

import json
import os
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from b2inst.data.coco_site import IMAGE_NAME, Split
from b2inst.data.errors import DataError
from b2inst.data.locking import locked

_MARK = "b2inst_subset"  # in the "info" of a reduced annotation file


def has_annotations(root: Path, split: Split) -> bool:
    """Whether the whole annotation file of a split is there, told by its size."""
    file = root / split.member
    return file.is_file() and split.annotation_bytes in (None, file.stat().st_size)


def has_all_images(root: Path, split: Split) -> bool:
    """Whether the folder of a split holds as many images as it should, and nothing else."""
    folder = root / split.name
    names = os.listdir(folder) if folder.is_dir() else []
    return len(names) == split.count and all(re.fullmatch(IMAGE_NAME, name) for name in names)


def refuse_other_data(root: Path, split: Split) -> None:
    """Make sure that completing a split overwrites nothing but a part of it.

    Raises:
        DataError: what lies there is not COCO's and was not made by ``fetch_coco_subset``.
    """
    remedy = "move it away or choose another folder"
    folder, file = root / split.name, root / split.member
    if not has_all_images(root, split):
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise DataError(f"{folder}: is no folder of its own; {remedy}")
        for name in os.listdir(folder) if folder.exists() else ():
            if not re.fullmatch(rf"{IMAGE_NAME}(\.partial|\.version)?", name):
                raise DataError(f"{folder / name}: is no image of COCO; {remedy}")
    if file.exists() and not has_annotations(root, split) and subset_size(file) is None:
        raise DataError(
            f"{file}: has {file.stat().st_size:,} bytes, COCO's own {split.annotation_bytes:,}; "
            f"{remedy}"
        )


def subset_size(file: Path) -> int | None:
    """The number of images that an annotation file was reduced to here; None of any other file."""
    try:
        return int(json.loads(file.read_bytes())["info"][_MARK])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def marked(content: dict[str, Any], images: int) -> dict[str, Any]:
    """A reduced annotation file's content, so that ``subset_size`` knows it."""
    return content | {"info": content.get("info", {}) | {_MARK: images}}


def fetching_into(folder: Path) -> AbstractContextManager[None]:
    """Hold a folder, made if need be, for this process.

    Raises:
        DataError: another process has it.
    """
    busy = f"{folder}: another process is fetching into it; wait for it or end it"
    return locked(folder, DataError(busy))
