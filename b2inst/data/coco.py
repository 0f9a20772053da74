"""Reading COCO-format annotations."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from b2inst.data.errors import DataError
from b2inst.data.segmentation import Segmentation, rasterise
from b2inst.data.validation import annotation_problem, category_problem, image_problem, is_void


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image of the set, not yet read."""

    id: int
    path: Path
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Annotation:
    """One object, or a crowd region, of an image."""

    id: int
    label: int  #: contiguous, 0-based
    box: tuple[float, float, float, float]  #: x1 y1 x2 y2 in pixels, clipped to the image
    area: float  #: pixels, as the file says
    segmentation: Segmentation  #: polygons as float64 arrays, or a run-length dict
    crowd: bool

    def mask(self, height: int, width: int) -> NDArray[np.uint8]:
        """H×W, 0 or 1, at the size of the image."""
        return rasterise(self.segmentation, height, width)


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
    fingerprint: str  #: sha256 of the annotation file and the images' names and byte sizes

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def load(
        cls, annotation_file: Path | str, image_dir: Path | str, *, skip_bad: bool = False
    ) -> Self:
        """Read and check a split. Images are looked for, not opened.

        Args:
            skip_bad: leave out what is wrong and list it in ``skipped`` rather than raise.

        Raises:
            DataError: the file cannot be read, or (without ``skip_bad``) something in it is
                wrong; the message names the first thing.
        """
        found = inspect(annotation_file, image_dir)
        if found.problems and not skip_bad:
            others = len(found.problems) - 1
            more = f" (and {others} more problem{'s' * (others > 1)})" if others else ""
            raise DataError(
                f"{found.problems[0]}{more}; correct it (`b2inst data check` lists everything) "
                "or go on with --skip-bad"
            )
        return cls(**vars(found.index) | {"skipped": found.problems + found.notes})

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


@dataclass(frozen=True)
class Inspection:
    """A split as far as it is sound, and what was left out."""

    index: CocoIndex
    problems: list[str]  #: a line each, file first; what is wrong
    notes: list[str]  #: the same for harmless annotations that cover no pixel


def find_split(root: Path | str, split: str) -> tuple[Path, Path]:
    """Annotation file and image folder of a split in a folder laid out as COCO itself.

    Raises:
        DataError: one of them is not there; names the splits that are.
    """
    root = Path(root)
    annotation_file, image_dir = root / "annotations" / f"instances_{split}.json", root / split
    if not annotation_file.is_file():
        there = ", ".join(find_splits(root)) or "none"
        raise DataError(
            f"{annotation_file}: no such file; a COCO folder has "
            f"annotations/instances_<split>.json (splits found: {there})"
        )
    if not image_dir.is_dir():
        raise DataError(f"{image_dir}: no such folder; the images of split {split!r} belong there")
    return annotation_file, image_dir


def find_splits(root: Path | str) -> list[str]:
    """Names of the splits that have an annotation file, sorted."""
    prefix = "instances_"
    files = Path(root).glob(f"annotations/{prefix}*.json")
    return sorted(file.stem.removeprefix(prefix) for file in files)


def inspect(annotation_file: Path | str, image_dir: Path | str) -> Inspection:
    """Read a split and sort out what is wrong with it.

    Raises:
        DataError: the file is no COCO annotation file at all, or there is no image folder.
    """
    annotation_file, image_dir = Path(annotation_file), Path(image_dir)
    content, digest = _read(annotation_file)
    files = _byte_sizes(image_dir, content["images"])
    problems: list[str] = []

    def sound(entries: list[Any], problem: Callable[[Any, set[int]], str | None]) -> list[Any]:
        good, seen = [], set[int]()
        for entry in entries:
            if what := problem(entry, seen):
                problems.append(f"{annotation_file}: {what}")
            else:
                seen.add(entry["id"])
                good.append(entry)
        return good

    categories = sound(content["categories"], category_problem)
    if not categories:
        raise DataError(f"{annotation_file}: no categories; a COCO file lists its classes there")
    categories.sort(key=lambda category: category["id"])
    labels = {category["id"]: label for label, category in enumerate(categories)}
    images = sound(content["images"], lambda entry, seen: image_problem(entry, seen, files))
    sizes = {image["id"]: (image["height"], image["width"]) for image in images}
    # Annotations of an image that was left out go with it, without a line each.
    left_out = {
        e["id"] for e in content["images"] if isinstance(e, dict) and "id" in e
    } - sizes.keys()
    annotations = sound(
        [a for a in content["annotations"] if not left_out or _image_id(a) not in left_out],
        lambda entry, seen: annotation_problem(entry, seen, sizes, labels),
    )
    by_image: dict[int, list[Annotation]] = {image_id: [] for image_id in sizes}
    notes: list[str] = []
    for entry in annotations:
        size = sizes[entry["image_id"]]
        if not is_void(entry, *size):
            by_image[entry["image_id"]].append(_annotation(entry, labels, *size))
            continue
        where = f"{annotation_file}: annotation {entry['id']} (image {entry['image_id']})"
        (notes if entry["area"] < 1 else problems).append(f"{where} covers no pixel")
    for image in images:
        digest.update(f"{image['file_name']}\0{files[image['file_name']]}\n".encode())
    index = CocoIndex(
        annotation_file=annotation_file,
        image_dir=image_dir,
        images=[
            ImageRecord(i["id"], image_dir / i["file_name"], i["height"], i["width"])
            for i in images
        ],
        annotations=by_image,
        class_names=tuple(category["name"] for category in categories),
        category_ids=tuple(category["id"] for category in categories),
        skipped=[],
        fingerprint=digest.hexdigest(),
    )
    return Inspection(index, problems, notes)


def _read(annotation_file: Path) -> tuple[dict[str, Any], Any]:
    """The file's content, its three lists checked to be lists, and a running sha256 of it."""
    try:
        raw = annotation_file.read_bytes()
        content = json.loads(raw)
    except OSError as error:
        raise DataError(f"{annotation_file}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{annotation_file}: not JSON ({error}); restore the file") from error
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise DataError(f"{annotation_file}: has no list {key!r}; is it a COCO instances file?")
    return content, hashlib.sha256(raw)


def _byte_sizes(image_dir: Path, images: list[Any]) -> dict[str, int]:
    """Byte sizes of the images that are there and not empty, by their name in the annotations.

    Lists each folder once, which on a network disk is far faster than asking for each file.
    """
    if not image_dir.is_dir():
        raise DataError(f"{image_dir}: no such image folder")
    names = [
        e["file_name"]
        for e in images
        if isinstance(e, dict) and isinstance(e.get("file_name"), str)
    ]
    sizes = {}
    for folder in {os.path.dirname(name) for name in names}:
        if (image_dir / folder).is_dir():
            with os.scandir(image_dir / folder) as entries:
                for entry in entries:
                    sizes[os.path.join(folder, entry.name)] = entry.stat().st_size
    return {name: size for name in names if (size := sizes.get(name, 0)) > 0}


def _image_id(entry: Any) -> Any:
    return entry.get("image_id") if isinstance(entry, dict) else None


def _annotation(entry: Any, labels: dict[int, int], height: int, width: int) -> Annotation:
    x, y, w, h = entry["bbox"]
    segmentation = entry["segmentation"]
    if isinstance(segmentation, list):  # arrays take a quarter of the memory of lists of floats
        segmentation = [np.array(polygon, dtype=np.float64) for polygon in segmentation]
    return Annotation(
        id=entry["id"],
        label=labels[entry["category_id"]],
        box=(max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))),
        area=float(entry["area"]),
        segmentation=segmentation,
        crowd=bool(entry["iscrowd"]),
    )
