"""A split of a COCO-format data set: its images and their annotations, checked."""

from __future__ import annotations

import gc
import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from b2inst.data.annotation_file import AnnotationFile, read_annotation_file
from b2inst.data.crowds import crowd_notes
from b2inst.data.errors import DataError
from b2inst.data.image_files import ImageFile, find_image_files
from b2inst.data.records import Annotation, ImageRecord
from b2inst.data.segmentation import BORDER_TOLERANCE, read_segmentation, to_rle
from b2inst.data.validation import (
    EntryError,
    Notes,
    RawAnnotation,
    read_area,
    read_box,
    read_crowd,
    read_id,
    read_image_entry,
    read_name,
    whole_number,
)

#: A polygon of this many pixels covers one for certain; whether a smaller one does is drawn.
_COVERING = 4.0

#: A COCO annotation file, or its content.
AnnotationSource = Path | str | Mapping[str, Any]


@dataclass(frozen=True)
class CocoIndex:
    """A COCO-format split: checked annotations, and where the images are.

    Labels are contiguous and 0-based in ascending order of the file's category ids, which may
    have gaps; ``category_ids[label]`` leads back.
    """

    annotation_file: Path
    image_dir: Path
    images: list[ImageRecord]  #: in the file's order
    annotations: dict[int, list[Annotation]]  #: by image id, in the file's order; maybe empty lists
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    skipped: list[str]  #: a line for each thing that was left out
    notes: list[str]  #: a line for each way in which the file is unusual, with counts
    fingerprint: str  #: sha256 of the annotation file and the images' names and byte sizes

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def load(
        cls,
        annotations: AnnotationSource,
        image_dir: Path | str | None = None,
        *,
        skip_bad: bool = False,
        crowds_as_instances: bool = False,
    ) -> Self:
        """Read and check a split. Images are looked for, not opened.

        Args:
            annotations: COCO annotation file, or its content.
            image_dir: folder of the images. None does not look for them.
            skip_bad: leave out what is wrong and list it in ``skipped`` rather than raise.
            crowds_as_instances: read annotations with ``iscrowd`` 1 as single objects.

        Raises:
            DataError: the file cannot be read, or (without ``skip_bad``) something in it is
                wrong; the message names the first thing.
        """
        found = inspect(annotations, image_dir, crowds_as_instances=crowds_as_instances)
        if found.problems and not skip_bad:
            raise DataError(
                f"{found.first_problem}; correct it (`b2inst data check` lists everything) "
                "or go on with --skip-bad"
            )
        return cls(**vars(found.index) | {"skipped": found.problems})

    def all_annotations(self) -> Iterator[Annotation]:
        """The annotations of all images, crowds included."""
        return (annotation for image in self.images for annotation in self.annotations[image.id])

    def annotated(self) -> CocoIndex:
        """Only the images that have an instance (crowds do not count), as papers train on."""
        return self.subset(
            image_id
            for image_id, found in self.annotations.items()
            if any(not a.crowd for a in found)
        )

    def subset(self, image_ids: Iterable[int]) -> CocoIndex:
        """Only the images of these ids, in the order of the file."""
        wanted = set(image_ids)
        if unknown := wanted - self.annotations.keys():
            raise DataError(f"{self.annotation_file}: no image of id {min(unknown)}")
        images = [image for image in self.images if image.id in wanted]
        ids = [image.id for image in images]
        fingerprint = hashlib.sha256(f"{self.fingerprint} {ids}".encode()).hexdigest()
        return replace(
            self,
            images=images,
            annotations={image_id: self.annotations[image_id] for image_id in ids},
            fingerprint=fingerprint if len(ids) < len(self) else self.fingerprint,
        )

    def require_instances(self) -> Self:
        """The index itself, if there is something to learn from or to evaluate on.

        Raises:
            DataError: it has no images or no instances; names the cause.
        """
        if problem := nothing_to_find(self):
            raise DataError(problem)
        return self

    def to_coco(self) -> dict[str, Any]:
        """What was read, as the content of an annotation file."""
        categories = zip(self.category_ids, self.class_names, strict=True)
        return {
            "images": [
                {
                    "id": image.id,
                    "file_name": os.path.relpath(image.path, self.image_dir),
                    "height": image.height,
                    "width": image.width,
                }
                for image in self.images
            ],
            "annotations": [
                self._entry(image.id, annotation)
                for image in self.images
                for annotation in self.annotations[image.id]
            ],
            "categories": [{"id": number, "name": name} for number, name in categories],
        }

    def _entry(self, image_id: int, annotation: Annotation) -> dict[str, Any]:
        segmentation = annotation.segmentation
        if isinstance(segmentation, list):
            segmentation = [polygon.tolist() for polygon in segmentation]
        return {
            "id": annotation.id,
            "image_id": image_id,
            "category_id": self.category_ids[annotation.label],
            "segmentation": segmentation,
            "bbox": list(annotation.bbox),
            "area": annotation.area,
            "iscrowd": int(annotation.crowd),
        }


@dataclass(frozen=True)
class Inspection:
    """A split as far as it is sound, and what is wrong with the rest."""

    index: CocoIndex
    problems: list[str]  #: a line each, file first

    @property
    def first_problem(self) -> str:
        """The first problem, and how many more there are."""
        others = len(self.problems) - 1
        more = f" (and {others} more problem{'s' * (others > 1)})" if others else ""
        return self.problems[0] + more


def inspect(
    annotations: AnnotationSource,
    image_dir: Path | str | None = None,
    *,
    crowds_as_instances: bool = False,
) -> Inspection:
    """Read a split and sort out what is wrong with it; arguments as ``CocoIndex.load``.

    Raises:
        DataError: the file is no COCO annotation file at all, or there is no image folder.
    """
    with _collector_paused():
        file = read_annotation_file(annotations)
        folder = file.path.parent if image_dir is None else Path(image_dir)
        reader = _Reader(file, crowds_as_instances=crowds_as_instances)
        if not file.annotations:
            file.notes.append("the list of annotations is empty")
        names = reader.categories()
        images = reader.images(folder, look=image_dir is not None)
        by_image = reader.annotations(images, names)
    index = CocoIndex(
        annotation_file=file.path,
        image_dir=folder,
        images=images,
        annotations=by_image,
        class_names=tuple(names[number] for number in sorted(names)),
        category_ids=tuple(sorted(names)),
        skipped=[],
        notes=[],
        fingerprint=file.digest.hexdigest(),
    )
    notes = file.notes + reader.notes.lines()
    notes += crowd_notes(index.all_annotations(), index.class_names)
    index.notes.extend(f"{file.path}: {note}" for note in notes)
    return Inspection(index, reader.problems)


def nothing_to_find(index: CocoIndex) -> str | None:
    """A line on why a split has nothing to learn from or to evaluate on, or None."""
    if not index.images:
        return f"{index.annotation_file}: no images that can be used"
    crowds = sum(map(len, index.annotations.values()))
    if crowds == 0:
        return f"{index.annotation_file}: no instances in its {len(index)} images; annotate some"
    if all(annotation.crowd for annotation in index.all_annotations()):
        return (
            f"{index.annotation_file}: no instances, since all {crowds} annotations have iscrowd "
            "1; if they are single objects, read them as such with --crowds-as-instances"
        )
    return None


class _Reader:
    """Reads the entries of a file and collects what is wrong with them."""

    def __init__(self, file: AnnotationFile, *, crowds_as_instances: bool) -> None:
        self.file = file
        self.crowds_as_instances = crowds_as_instances
        self.problems: list[str] = []
        self.notes = Notes()

    def categories(self) -> dict[int, str]:
        """Name by id."""
        names: dict[int, str] = {}
        by_name: dict[str, int] = {}
        for entry in self.file.categories:
            with self._collected():
                number = read_id("category", entry, names)
                names[number] = name = read_name(entry)
                if by_name.setdefault(name, number) != number:
                    self.notes.add(
                        "categories of a name that another one has (each is a class of its own)",
                        f"{name!r}, ids {by_name[name]} and {number}",
                    )
        if not names:
            raise DataError(f"{self.file.path}: no categories; a COCO file lists its classes there")
        return names

    def images(self, folder: Path, *, look: bool) -> list[ImageRecord]:
        """The images that are sound and (with ``look``) there."""
        entries: dict[int, tuple[str, int, int]] = {}
        for entry in self.file.images:
            with self._collected():
                number = read_id("image", entry, entries)
                entries[number] = read_image_entry(entry, named=look)
        names = [name for name, _, _ in entries.values()]
        if look:
            files = find_image_files(folder, names)
        else:
            files = {name: ImageFile(name, 0) for name in names}
        records = []
        ids: dict[str, int] = {}
        for number, (name, height, width) in entries.items():
            with self._collected():
                if name not in files:
                    raise EntryError(f"image {number} ({name}) is missing from the image folder")
                file = files[name]
                if ids.setdefault(file.name, number) != number:
                    self.notes.add(
                        "files that are several images, each with a part of the objects",
                        f"{file.name}, ids {ids[file.name]} and {number}",
                    )
                if file.by_base_name:
                    self.notes.add("images found by the last part of their file_name", name)
                records.append(ImageRecord(number, folder / file.name, height, width))
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
        seen: set[int] = set()
        entries = self.file.annotations
        entries.reverse()
        while entries:
            entry = entries.pop()  # which frees it
            if isinstance(entry, dict):  # has neither image nor mask
                entry = RawAnnotation(entry.get("id"))
            raw = isinstance(entry, RawAnnotation)
            image_id = whole_number(entry.image_id) if raw else None
            if image_id in left_out:
                continue
            try:
                number = read_id("annotation", entry, seen)
                seen.add(number)
                if image_id not in sizes:
                    raise EntryError(
                        f"annotation {number} is for an unknown image, id {entry.image_id!r:.40}"
                    )
                label = labels.get(whole_number(entry.category_id))  # type: ignore[arg-type]
                if label is None:
                    raise EntryError(
                        f"{entry} has an unknown category, id {entry.category_id!r:.40}"
                    )
                found = self._annotation(number, label, entry, sizes[image_id], plain)
            except EntryError as error:
                self._add_problem(error)
                continue
            if found is not None:
                by_image[image_id].append(found)
        return by_image

    def _annotation(
        self,
        number: int,
        label: int,
        entry: RawAnnotation,
        size: tuple[int, int],
        plain: NDArray[np.bool_],
    ) -> Annotation | None:
        """An annotation; None if it covers no pixel."""
        crowd, area, box = read_crowd(entry, self.notes), read_area(entry), read_box(entry, *size)
        if entry.polygons is not None and plain[entry.polygons]:
            segmentation: Any = self.file.polygons[entry.polygons]
            covers = True
        else:
            packed = entry.polygons
            value = entry.segmentation
            if packed is not None:
                value = [polygon.tolist() for polygon in self.file.polygons[packed]]
            try:
                segmentation = read_segmentation(
                    value, *size, lambda form: self.notes.add(form, str(entry))
                )
            except ValueError as error:
                raise EntryError(f"{entry} {error}") from None
            covers = coco_mask.area(to_rle(segmentation, *size)) > 0
        if not covers:
            if isinstance(segmentation, dict) and area:
                raise EntryError(f"{entry} has area {area:g}, but its run lengths cover no pixel")
            self.notes.add("annotations that cover no pixel (left out)", str(entry))
            return None
        if area is None or box is None:
            area, box = self._measured(entry, segmentation, size, area, box)
        return Annotation(
            id=number,
            label=label,
            bbox=box,
            area=area,
            segmentation=segmentation,
            crowd=crowd and not self.crowds_as_instances,
            size=size,
        )

    def _measured(
        self,
        entry: RawAnnotation,
        segmentation: Any,
        size: tuple[int, int],
        area: float | None,
        box: tuple[float, float, float, float] | None,
    ) -> tuple[float, tuple[float, float, float, float]]:
        """Area and box, taken from the mask where the file has none that can be meant."""
        code = to_rle(segmentation, *size)
        pixels = int(coco_mask.area(code))
        if area is None and box is None and entry.area is not None and entry.bbox is not None:
            raise EntryError(
                f"{entry} has bbox and area 0, but its mask has {pixels} pixels; write those of "
                "the mask, or neither"
            )
        if area is None:
            has = "no area" if entry.area is None else "area 0"
            self.notes.add(f"annotations with {has} (counted from the mask)", str(entry))
            area = float(pixels)
        if box is None:
            has = "no bbox" if entry.bbox is None else "a flat bbox"
            self.notes.add(f"annotations with {has} (taken from the mask)", str(entry))
            box = tuple(coco_mask.toBbox(code).tolist())
        return area, box

    def _plain(self, sizes: Mapping[int, tuple[int, int]]) -> NDArray[np.bool_]:
        """Which packed polygons need no closer look, by position: nearly all of them."""
        packed = [
            (entry.polygons, *size)
            for entry in self.file.annotations
            if isinstance(entry, RawAnnotation) and entry.polygons is not None
            if (size := sizes.get(whole_number(entry.image_id))) is not None  # type: ignore[arg-type]
        ]
        limits = np.full((len(self.file.polygons), 2), math.nan)
        positions, heights, widths = np.array(packed, dtype=np.int64).reshape(-1, 3).T
        limits[positions] = np.stack([widths, heights], axis=1)
        return self.file.polygons.sound(limits, tolerance=BORDER_TOLERANCE, area=_COVERING)

    @contextmanager
    def _collected(self) -> Iterator[None]:
        try:
            yield
        except EntryError as error:
            self._add_problem(error)

    def _add_problem(self, error: EntryError) -> None:
        self.problems.append(f"{self.file.path}: {error}")


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Millions of new objects and no garbage: the collector would look at them again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
