"""A few images of classes that no model here was trained on, in place of a user's own."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from b2inst.data import write_scenes
from b2inst.experiments.runs.store import write_json

#: The classes of the example, and the scenes' classes that each is made of.
GROUPS = {
    "jagged": ("star", "gear"),
    "round": ("crescent", "blob", "ring"),
    "drawn": ("leaf", "letter", "figure"),
}

_SEEDS = {"train": 103, "val": 104}  # of no profile


def write_example(root: Path, *, images: int = 10, size: int = 96) -> Path:
    """Write scenes with classes of their own as a COCO-format folder; what is there stays.

    Args:
        images: of each of the splits train and val.
        size: side of an image in pixels.

    Returns:
        ``root``.

    Raises:
        DataError: the folder cannot be written.
    """
    for split, seed in _SEEDS.items():
        annotation_file = root / "annotations" / f"instances_{split}.json"
        if annotation_file.is_file():
            continue
        with tempfile.TemporaryDirectory() as folder:
            made = write_scenes(folder, split=split, images=images, size=size, seed=seed)
            shutil.copytree(Path(folder) / split, root / split, dirs_exist_ok=True)
            content = json.loads(made.read_text(encoding="utf-8"))
        write_json(annotation_file, regrouped(content, GROUPS))
    return root


def regrouped(content: dict[str, Any], groups: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """An annotation file with other classes: each takes the objects of some of the old ones.

    Args:
        content: of a COCO annotation file.
        groups: new class → names of old ones; objects of a class in no group are left out.

    Raises:
        ValueError: a name that is no class of the file.
    """
    old = {category["name"]: category["id"] for category in content["categories"]}
    if unknown := {name for names in groups.values() for name in names} - old.keys():
        raise ValueError(f"no class {sorted(unknown)} among {', '.join(old)}")
    new = {old[name]: i for i, names in enumerate(groups.values(), start=1) for name in names}
    return content | {
        "annotations": [
            annotation | {"category_id": new[annotation["category_id"]]}
            for annotation in content["annotations"]
            if annotation["category_id"] in new
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(groups, start=1)],
    }
