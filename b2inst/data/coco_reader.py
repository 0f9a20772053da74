"""Reads the entries of an annotation file and collects what is wrong with them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from b2inst.data.annotation_file import AnnotationFile, Packed
from b2inst.data.errors import DataError
from b2inst.data.image_files import ImageFile, find_image_files
from b2inst.data.records import Annotation, ImageRecord
from b2inst.data.segmentation import BORDER_TOLERANCE, read_segmentation, to_rle
from b2inst.data.validation import (
    AnnotationEntry,
    CategoryEntry,
    Entry,
    EntryError,
    ImageEntry,
    read_entry,
    whole_number,
)

#: A polygon of this many pixels covers one for certain; whether a smaller one does is drawn.
_COVERING = 4.0

_Box = tuple[float, float, float, float]  # x, y, width, height in pixels


class CocoReader:
    """Reads the entries of a file and collects what is wrong with them."""

    def __init__(self, file: AnnotationFile, *, crowds_as_instances: bool) -> None:
        self.file = file
        self.crowds_as_instances = crowds_as_instances
        self.problems: list[str] = []
        #: what was read in another way than the file has it, and the entries where
        self.notes: defaultdict[str, list[str]] = defaultdict(list)

    def categories(self) -> dict[int, str]:
        """Name by id."""
        names: dict[int, str] = {}
        by_name: dict[str, int] = {}
        for found in self._entries(CategoryEntry, self.file.categories):
            names[found.id] = found.name
            if (first := by_name.setdefault(found.name, found.id)) != found.id:
                note = "categories of a name that another one has (each is a class of its own)"
                self.notes[note].append(f"{found.name!r}, ids {first} and {found.id}")
        if not names:
            raise DataError(f"{self.file.path}: no categories; a COCO file lists its classes there")
        return names

    def images(self, folder: Path, *, look: bool) -> list[ImageRecord]:
        """The images that are sound and (with ``look``) there."""
        entries = list(self._entries(ImageEntry, self.file.images))
        names = [entry.file_name or str(entry.id) for entry in entries]
        files = {name: ImageFile(name, 0) for name in names}
        if look:
            files = find_image_files(folder, names)
        records = []
        ids: dict[str, int] = {}
        for entry, name in zip(entries, names, strict=True):
            if name not in files:
                what = "is missing from the image folder" if entry.file_name else "has no file_name"
                self.problem(f"{entry} {what}")
                continue
            file = files[name]
            if (first := ids.setdefault(file.name, entry.id)) != entry.id:
                note = "files that are several images, each with a part of the objects"
                self.notes[note].append(f"{file.name}, ids {first} and {entry.id}")
            if file.by_base_name:
                self.notes["images found by the last part of their file_name"].append(name)
            records.append(ImageRecord(entry.id, folder / file.name, entry.height, entry.width))
            self.file.digest.update(f"{name}\0{file.size}\n".encode(errors="surrogatepass"))
        return records

    def annotations(
        self, images: list[ImageRecord], names: Mapping[int, str]
    ) -> dict[int, list[Annotation]]:
        """The annotations that are sound and cover a pixel, by image id."""
        sizes = {image.id: (image.height, image.width) for image in images}
        labels = {number: label for label, number in enumerate(sorted(names))}
        # Annotations of an image that was left out go with it, without a line each.
        left_out = {whole_number(e.get("id")) for e in self.file.images if isinstance(e, dict)}
        left_out -= {None, *sizes}
        plain = self._plain(sizes)
        by_image: dict[int, list[Annotation]] = {image_id: [] for image_id in sizes}
        entries = self.file.annotations
        if not entries:
            self.notes["the list of annotations is empty"] = []
        entries.reverse()
        kept = (
            e
            for e in _emptied(entries)
            if not (isinstance(e, dict) and whole_number(e.get("image_id")) in left_out)
        )
        for entry in self._entries(AnnotationEntry, kept):
            if entry.image_id not in sizes:
                self.problem(f"annotation {entry.id} is for an unknown image, id {entry.image_id}")
            elif entry.category_id not in labels:
                self.problem(f"{entry} has an unknown category, id {entry.category_id}")
            else:
                label, size = labels[entry.category_id], sizes[entry.image_id]
                try:
                    found = self._annotation(label, entry, size, plain)
                except ValueError as error:
                    self.problem(f"{entry} {error}")
                    continue
                if found is None:
                    self.notes["annotations that cover no pixel (left out)"].append(str(entry))
                else:
                    by_image[entry.image_id].append(found)
        return by_image

    def _annotation(
        self, label: int, entry: AnnotationEntry, size: tuple[int, int], plain: NDArray[np.bool_]
    ) -> Annotation | None:
        """An annotation; None if it covers no pixel."""
        if entry.iscrowd is None:
            self.notes["annotations without iscrowd, read as 0"].append(str(entry))
        area, box = entry.area, _box_within(entry.bbox, *size)
        segmentation: Any = entry.segmentation
        packed = isinstance(segmentation, Packed)
        sound = packed and bool(plain[segmentation])
        if packed:
            segmentation = self.file.polygons[segmentation]
        if not sound:
            if packed:
                segmentation = [polygon.tolist() for polygon in segmentation]
            segmentation = read_segmentation(
                segmentation, *size, lambda form: self.notes[form].append(str(entry))
            )
        if not sound or not area or box is None:
            code = to_rle(segmentation, *size)
            pixels = int(coco_mask.area(code))
            if not pixels and area and isinstance(segmentation, dict):
                raise ValueError(f"has area {area:g}, but its run lengths cover no pixel")
            if not pixels:
                return None
            if entry.area == 0 and box is None and entry.bbox is not None:
                raise ValueError(
                    f"has bbox and area 0, but its mask has {pixels} pixels; write those "
                    "of the mask, or neither"
                )
            if not area:
                has = "no area" if entry.area is None else "area 0"
                self.notes[f"annotations with {has} (counted from the mask)"].append(str(entry))
                area = float(pixels)
            if box is None:
                has = "no bbox" if entry.bbox is None else "a bbox of no area in the image"
                self.notes[f"annotations with {has} (taken from the mask)"].append(str(entry))
                box = tuple(coco_mask.toBbox(code).tolist())
        crowd = bool(entry.iscrowd) and not self.crowds_as_instances
        return Annotation(entry.id, label, box, area, segmentation, crowd, size)

    def _plain(self, sizes: Mapping[int, tuple[int, int]]) -> NDArray[np.bool_]:
        """Which packed polygons need no closer look, by position: nearly all of them."""
        limits = np.full((len(self.file.polygons), 2), math.nan)
        for entry in self.file.annotations:
            if isinstance(entry, dict) and isinstance(k := entry.get("segmentation"), Packed):
                image_id = whole_number(entry.get("image_id"))
                if image_id is not None and image_id in sizes:
                    limits[k] = sizes[image_id][::-1]
        return self.file.polygons.sound(limits, tolerance=BORDER_TOLERANCE, area=_COVERING)

    def _entries(self, model: type[Entry], entries: Iterable[object]) -> Iterator[Entry]:
        """The sound entries of a list, in its order."""
        seen: set[int] = set()
        for entry in entries:
            try:
                found = read_entry(model, entry, seen)
            except EntryError as error:
                self.problem(str(error))
            else:
                seen.add(found.id)
                yield found

    def problem(self, line: str) -> None:
        self.problems.append(f"{self.file.path}: {line}")


def _emptied(entries: list[Any]) -> Iterator[Any]:
    """The entries from the last on, each freed once it is used."""
    while entries:
        yield entries.pop()


def _box_within(box: _Box | None, height: int, width: int) -> _Box | None:
    """The box, or None if there is none, or one of no area in its image; ValueError outside."""
    if box is None:
        return None
    x, y, w, h = box
    t = BORDER_TOLERANCE
    if x < -t or y < -t or x + w > width + t or y + h > height + t:
        raise ValueError(
            f"has bbox {list(box)} outside its {width}×{height} image; boxes are x, y, width, "
            "height"
        )
    return box if max(x, 0) < min(x + w, width) and max(y, 0) < min(y + h, height) else None
