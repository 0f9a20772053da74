"""Writing data of other formats as a COCO-format folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask
from tqdm import tqdm

from b2inst.data.files import new_folder
from b2inst.data.images import file_names, probe_image
from b2inst.data.segmentation import Segmentation, measured, to_rle
from b2inst.data.wording import BadFileError, DataError, counted, folded

#: Names of splits in data sets, and the split that is written.
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}

#: Called with an image's path, height and width; returns category id and mask of each object.
ReadObjects = Callable[[Path, int, int], Sequence[tuple[int, Segmentation]]]


@dataclass
class Conversion:
    """A data set that is converted to a COCO-format folder, and then the report; ``print`` it."""

    source: Path
    folder: Path  #: to write to; must not exist, or be empty, and be outside of the source
    skip_bad: bool = False  #: leave out what is wrong and list it in ``skipped`` rather than raise
    #: images, those without objects, and objects, by the name of the split
    splits: dict[str, tuple[int, int, int]] = field(default_factory=dict, init=False)
    notes: list[str] = field(default_factory=list, init=False)
    skipped: list[str] = field(default_factory=list, init=False)
    _read: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.source.exists():
            raise DataError(f"{self.source}: no such file or folder")
        if self.folder.exists() and not (self.folder.is_dir() and not os.listdir(self.folder)):
            raise DataError(f"{self.folder}: already exists; delete it or choose another folder")
        if self.source.resolve() in self.folder.resolve().parents:
            raise DataError(f"{self.folder}: lies in {self.source}; choose a folder outside of it")

    def leave_out(self, error: DataError) -> None:
        """List an error in ``skipped``; without ``skip_bad``, raise it, with a remedy."""
        if not self.skip_bad:
            raise error if isinstance(error, BadFileError) else BadFileError(f"{error}; correct it")
        self.skipped.append(str(error))

    def read(self, split: str, images: Iterable[Path], read: ReadObjects) -> None:
        """Read the images of a split and their objects, as far as they are valid.

        Areas and boxes are those of the masks' pixels; objects that cover none are left out.
        """
        links: dict[str, Path] = {}
        records: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        flat = 0
        for name, image in tqdm(file_names(images).items(), desc=split, disable=None):
            try:
                height, width = probe_image(image)
                objects = read(image, height, width)
            except DataError as error:
                self.leave_out(error)
                continue
            links[name] = image
            number = len(links)
            records.append({"id": number, "file_name": name, "height": height, "width": width})
            for category, segmentation in objects:
                code = to_rle(segmentation, height, width)
                if not coco_mask.area(code):
                    flat += 1
                    continue
                ids = {"id": len(annotations) + 1, "image_id": number, "category_id": category}
                polygons = {"segmentation": segmentation} if isinstance(segmentation, list) else {}
                annotations.append(ids | measured(code) | polygons)
        empty = len(records) - len({a["image_id"] for a in annotations})
        self.splits[split] = len(records), empty, len(annotations)
        self._read[split] = links, {"images": records, "annotations": annotations}
        if flat:
            self.notes.append(f"{split}: objects that cover no pixel, left out: {flat}")

    def write(self, categories: Mapping[int, str]) -> None:
        """Write all splits that were read, with names by id, or nothing if anything goes wrong.

        Images are hard links to the source's files, or copies where links are impossible.

        Raises:
            DataError: No image has an object.
        """
        if not any(objects for _, _, objects in self.splits.values()):
            raise DataError(f"{self.source}: no image has an object; nothing to convert")
        named = [{"id": number, "name": name} for number, name in categories.items()]
        with new_folder(self.folder) as made:
            (made / "annotations").mkdir()
            for split, (links, content) in self._read.items():
                (made / split).mkdir()
                for name, image in links.items():
                    target = made / split / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    try:
                        os.link(image.resolve(), target)
                    except OSError:  # another disk, or a file system without links
                        shutil.copyfile(image, target)
                text = json.dumps(content | {"categories": named})
                (made / f"annotations/instances_{split}.json").write_text(text, "utf-8")

    def __str__(self) -> str:
        lines = [
            f"{self.folder / f'annotations/instances_{split}.json'}: {counted(images, 'image')} "
            f"({empty} without objects), {counted(objects, 'object')}"
            for split, (images, empty, objects) in self.splits.items()
        ]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"left out: {line}" for line in folded(self.skipped)]
        return "\n".join(lines)
