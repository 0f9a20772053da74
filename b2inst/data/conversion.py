"""Writing data of other formats as a COCO-format folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pycocotools import mask as coco_mask
from tqdm import tqdm

from b2inst.data.errors import DataError
from b2inst.data.files import new_folder
from b2inst.data.segmentation import measured, to_rle

#: Names of splits in data sets, and the split that is written.
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Sample:
    """An image and its objects."""

    image: Path
    name: str  #: in its split; may have folders
    height: int
    width: int
    objects: Sequence[tuple[int, Any]]  #: category id and mask (polygons or run lengths) of each


@dataclass
class Conversion:
    """A data set that is converted to a COCO-format folder, and then the report; ``print`` it.

    Args:
        folder: To write to; must not exist, or be empty, and be outside of the source.
        skip_bad: Leave out what is wrong and list it in ``skipped`` rather than raise.
    """

    source: Path
    folder: Path
    skip_bad: bool = False
    #: images, those without objects, and objects, by the name of the split
    splits: dict[str, tuple[int, int, int]] = field(default_factory=dict, init=False)
    notes: list[str] = field(default_factory=list, init=False)
    skipped: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if not self.source.exists():
            raise DataError(f"{self.source}: no such file or folder")
        if self.folder.exists() and not (self.folder.is_dir() and not os.listdir(self.folder)):
            raise DataError(f"{self.folder}: is there already; delete it or choose another folder")
        if self.source.resolve() in self.folder.resolve().parents:
            raise DataError(f"{self.folder}: lies in {self.source}; choose a folder outside of it")

    def leave_out(self, problem: str) -> None:
        """List a problem in ``skipped``; without ``skip_bad``, raise it."""
        if not self.skip_bad:
            remedy = "" if "--skip-bad" in problem else "; correct it or go on with --skip-bad"
            raise DataError(problem + remedy)
        self.skipped.append(problem)

    def write(
        self,
        splits: Mapping[str, Iterable[Sample]],
        categories: Mapping[int, str],
        progress: bool = False,
    ) -> None:
        """Write all splits, or nothing if anything goes wrong.

        Images are hard links to the source's files, or copies where links are impossible. Areas
        and boxes are those of the masks' pixels; objects that cover none are left out.

        Args:
            splits: Samples by the name of the split.
            categories: Names by id.

        Raises:
            DataError: No image has an object.
        """
        with new_folder(self.folder) as made:
            (made / "annotations").mkdir()
            for split, samples in splits.items():
                (made / split).mkdir()
                bar = tqdm(samples, desc=split, unit="image", disable=not progress)
                content = self._convert(split, bar, made / split)
                content["categories"] = [{"id": k, "name": name} for k, name in categories.items()]
                (made / _annotations(split)).write_text(json.dumps(content), "utf-8")
            if not any(objects for _, _, objects in self.splits.values()):
                raise DataError(f"{self.source}: no image has an object; nothing to convert")

    def _convert(self, split: str, samples: Iterable[Sample], folder: Path) -> dict[str, Any]:
        """Link the images of a split; returns its images and annotations."""
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        empty = flat = 0
        for sample in samples:
            size = {"height": sample.height, "width": sample.width}
            images.append({"id": len(images) + 1, "file_name": sample.name} | size)
            _link(sample.image, folder / sample.name)
            before = len(annotations)
            for category, segmentation in sample.objects:
                code = to_rle(segmentation, **size)
                if not coco_mask.area(code):
                    flat += 1
                    continue
                ids = {"id": len(annotations) + 1, "image_id": len(images), "category_id": category}
                annotations.append(ids | measured(code))
                if isinstance(segmentation, list):
                    annotations[-1]["segmentation"] = segmentation
            empty += len(annotations) == before
        self.splits[split] = len(images), empty, len(annotations)
        if flat:
            self.notes.append(f"{split}: objects that cover no pixel, left out: {flat}")
        return {"images": images, "annotations": annotations}

    def __str__(self) -> str:
        lines = [
            f"{self.folder / _annotations(split)}: {images} images ({empty} without objects), "
            f"{objects} objects"
            for split, (images, empty, objects) in self.splits.items()
        ]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"left out: {line}" for line in self.skipped]
        return "\n".join(lines)


def _annotations(split: str) -> Path:
    return Path("annotations", f"instances_{split}.json")


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except FileExistsError:  # copying would write through its link to another source file
        raise
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)
