"""Reading COCO-format annotations."""

from __future__ import annotations

import gc
import hashlib
import json
import marshal
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from b2inst.data.errors import DataError
from b2inst.data.polygons import Polygons
from b2inst.data.segmentation import Segmentation, rasterise
from b2inst.data.validation import (
    BORDER_TOLERANCE,
    annotation_problem,
    category_problem,
    covers_something,
    has_flat_box,
    image_problem,
    segmentation_problem,
)

#: A polygon of this many pixels covers one for certain; whether a smaller one does is drawn.
_COVERING = 4.0


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


def inspect(annotation_file: Path | str, image_dir: Path | str) -> Inspection:
    """Read a split and sort out what is wrong with it.

    Raises:
        DataError: the file is no COCO annotation file at all, or there is no image folder.
    """
    with _collector_paused():
        return _inspect(Path(annotation_file), Path(image_dir))


def _inspect(annotation_file: Path, image_dir: Path) -> Inspection:
    content, digest = _read(annotation_file)
    files = _byte_sizes(image_dir, content["images"])
    problems: list[str] = []

    def sound(entries: list[Any], problem: Callable[[int, Any, set[int]], str | None]) -> list[int]:
        """Positions of the entries without a problem."""
        good, seen = [], set[int]()
        for k, entry in enumerate(entries):
            if what := problem(k, entry, seen):
                problems.append(f"{annotation_file}: {what}")
            else:
                seen.add(entry["id"])
                good.append(k)
        return good

    found = content["categories"]
    categories = [found[k] for k in sound(found, lambda _, e, seen: category_problem(e, seen))]
    if not categories:
        raise DataError(f"{annotation_file}: no categories; a COCO file lists its classes there")
    categories.sort(key=lambda category: category["id"])
    labels = {category["id"]: label for label, category in enumerate(categories)}
    found = content["images"]
    images = [found[k] for k in sound(found, lambda _, e, seen: image_problem(e, seen, files))]
    sizes = {image["id"]: (image["height"], image["width"]) for image in images}
    # Annotations of an image that was left out go with it, without a line each.
    left_out = {e["id"] for e in found if isinstance(e, dict) and "id" in e} - sizes.keys()
    entries = [e for e in content["annotations"] if not left_out or _image_id(e) not in left_out]
    polygons = Polygons(e.get("segmentation") if isinstance(e, dict) else None for e in entries)
    # Nearly all are told to be in order together; only the others are looked at one by one.
    plain = polygons.sound(
        _image_sizes(entries, sizes), tolerance=BORDER_TOLERANCE, area=_COVERING
    ).tolist()

    def problem(k: int, entry: Any, seen: set[int]) -> str | None:
        what = annotation_problem(entry, seen, sizes, labels)
        if what or plain[k]:
            return what
        return segmentation_problem(entry, *sizes[entry["image_id"]])

    by_image: dict[int, list[Annotation]] = {image_id: [] for image_id in sizes}
    notes: list[str] = []
    for k in sound(entries, problem):
        entry = entries[k]
        size = sizes[entry["image_id"]]
        if has_flat_box(entry) or not (plain[k] or covers_something(entry["segmentation"], *size)):
            where = f"{annotation_file}: annotation {entry['id']} (image {entry['image_id']})"
            (notes if entry["area"] < 1 else problems).append(f"{where} covers no pixel")
        else:
            by_image[entry["image_id"]].append(_annotation(entry, polygons[k], labels, *size))
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


def _image_sizes(entries: list[Any], sizes: dict[int, tuple[int, int]]) -> NDArray[np.float64]:
    """N×2, width and height of the images of annotations; NaN of an unknown image."""
    nowhere = (math.nan, math.nan)
    found = [sizes.get(_image_id(entry), nowhere) for entry in entries]
    return np.array(found, dtype=np.float64).reshape(-1, 2)[:, ::-1]


def _annotation(
    entry: Any, polygons: list[Any], labels: dict[int, int], height: int, width: int
) -> Annotation:
    run_lengths = None if polygons else entry["segmentation"]
    kept = entry["id"], entry["bbox"], entry["area"], run_lengths
    # A copy: one number of the parsed file would keep the megabyte around it in memory, and all
    # of COCO's 2 GB in every process.
    number, (x, y, w, h), area, run_lengths = marshal.loads(marshal.dumps(kept))
    return Annotation(
        id=number,
        label=labels[entry["category_id"]],
        box=(max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))),
        area=float(area),
        segmentation=polygons or run_lengths,
        crowd=bool(entry["iscrowd"]),
    )
