"""A few images of classes that no model here was trained on, in place of a user's own."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

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
    """Write scenes with the classes ``GROUPS`` as a COCO-format folder; existing splits stay.

    Args:
        root: The folder, which is also returned.
        images: Images of each of the splits train and val.
        size: Side of an image in pixels.
    """
    for split, seed in _SEEDS.items():
        annotation_file = root / "annotations" / f"instances_{split}.json"
        if annotation_file.is_file():
            continue
        with tempfile.TemporaryDirectory() as folder:
            made = write_scenes(folder, split=split, images=images, size=size, seed=seed)
            shutil.copytree(Path(folder) / split, root / split, dirs_exist_ok=True)
            content = json.loads(made.read_text(encoding="utf-8"))
        ids = {category["name"]: category["id"] for category in content["categories"]}
        group_of = {ids[n]: i for i, names in enumerate(GROUPS.values(), 1) for n in names}
        for annotation in content["annotations"]:
            annotation["category_id"] = group_of[annotation["category_id"]]
        content["categories"] = [{"id": i, "name": name} for i, name in enumerate(GROUPS, 1)]
        write_json(annotation_file, content)
    return root
