"""Reads an annotation file and collects what is wrong or unusual in it."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Gt, Le
from pycocotools import mask as coco_mask
from pydantic import (
    AliasChoices,
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    Field,
    Strict,
    ValidationError,
)

from b2inst.data.errors import DataError
from b2inst.data.images import ImageRecord, find_image_files
from b2inst.data.segmentation import (
    BORDER_TOLERANCE,
    Annotation,
    covers_certainly,
    read_segmentation,
    to_rle,
)
from b2inst.data.wording import shortened

#: COCO has 1 to 2 % crowds. A larger share that coincides with run lengths is an exporter's.
_SUSPICIOUS_SHARE = 0.05

_MAX_PIXELS = 2**31  # pycocotools counts them in 32 bits
_LISTS = ("images", "annotations", "categories")
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")

_Box = tuple[float, float, float, float]  # x, y, width, height in pixels


def whole_number(value: object) -> int | None:
    """Convert a whole number, also if it is written as 7.0; None for anything else."""
    if type(value) is int:
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


_Whole = Annotated[int, Strict(), BeforeValidator(whole_number)]
_Number = Annotated[float, Strict(), AllowInfNan(False)]
_Size = Annotated[_Number, Ge(0)]


class _Category(BaseModel):
    id: _Whole
    name: str


class _Image(BaseModel):
    id: _Whole
    file_name: str | None = Field(  # LVIS has the address only
        default=None, validation_alias=AliasChoices("file_name", "coco_url")
    )
    height: Annotated[_Whole, Gt(0)]
    width: Annotated[_Whole, Gt(0)]

    def __str__(self) -> str:
        return f"image {self.id}" + (f" ({self.file_name})" if self.file_name else "")


class _Annotation(BaseModel):
    id: _Whole
    image_id: _Whole
    category_id: _Whole
    segmentation: Any = None
    bbox: tuple[_Number, _Number, _Size, _Size] | None = Field(
        default=None, description="x, y, width, height in pixels"
    )
    area: _Size | None = None  # pixels
    iscrowd: Annotated[int, Ge(0), Le(1)] | None = Field(
        default=None, description="write 0, or 1 for a crowd"
    )

    def __str__(self) -> str:
        return f"annotation {self.id} (image {self.image_id})"


_Entry = TypeVar("_Entry", _Category, _Image, _Annotation)


class CocoReader:
    """Reads the three lists of an annotation file, or of its content, as far as they are valid.

    Raises:
        DataError: It is no COCO annotation file at all.
    """

    def __init__(
        self,
        source: Path | str | Mapping[str, Any],
        *,
        annotated: bool,
        crowds_as_instances: bool,
    ) -> None:
        self.crowds_as_instances = crowds_as_instances
        self.problems: list[str] = []
        self.digest = hashlib.sha256()  # of the file's bytes, then of the images' names and sizes
        # What was read in another way than the file has it, and the entries where.
        self._notes: defaultdict[str, list[str]] = defaultdict(list)
        self._forms: Counter[tuple[int, bool, bool]] = Counter()  # label, crowd, run lengths
        self.path = Path("annotations") if isinstance(source, Mapping) else Path(source)
        content: Any = source if isinstance(source, Mapping) else self._parse()
        if not annotated and isinstance(content, dict):
            content = {"annotations": [], **content}
        for key in _LISTS:
            if not isinstance(content, Mapping) or not isinstance(content.get(key), list):
                raise DataError(f"{self.path}: has no list {key!r}; is it a COCO instances file?")
        if any(isinstance(e, dict) and "segments_info" in e for e in content["annotations"]):
            raise DataError(
                f"{self.path}: panoptic annotations; give the instances file of the same set"
            )
        self._content = {key: list(content[key]) for key in _LISTS}

    def _parse(self) -> Any:
        try:
            raw = self.path.read_bytes()
            self.digest.update(raw)
            if raw.startswith(_BYTE_ORDER_MARKS):
                self._notes["the file starts with a byte-order mark, which is ignored"] = []
            return json.loads(raw, object_hook=_compact)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror})") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.path}: not JSON ({error}); restore the file") from error

    def categories(self) -> dict[int, str]:
        """Names by id, in ascending order of the ids."""
        names: dict[int, str] = {}
        by_name: dict[str, int] = {}
        for found in self._entries(_Category, self._content["categories"]):
            names[found.id] = found.name
            if (first := by_name.setdefault(found.name, found.id)) != found.id:
                note = "categories of a name that another one has (each is a class of its own)"
                self._notes[note].append(f"{found.name!r}, ids {first} and {found.id}")
        if not names:
            raise DataError(f"{self.path}: no categories; a COCO file lists its classes there")
        return dict(sorted(names.items()))

    def images(self, folder: Path | None) -> list[ImageRecord]:
        """The images that are valid and in the folder (None: wherever they are)."""
        entries = list(self._entries(_Image, self._content["images"]))
        names = [entry.file_name or str(entry.id) for entry in entries]
        files = find_image_files(folder, names) if folder else {name: (name, 0) for name in names}
        records = []
        ids: dict[str, int] = {}
        for entry, name in zip(entries, names, strict=True):
            if entry.height * entry.width >= _MAX_PIXELS:
                self._problem(
                    f"{entry} has {entry.width}×{entry.height} pixels; at most 2^31 can be used"
                )
                continue
            if name not in files:
                what = "is missing from the image folder" if entry.file_name else "has no file_name"
                self._problem(f"{entry} {what}")
                continue
            found, size = files[name]
            if (first := ids.setdefault(found, entry.id)) != entry.id:
                note = "files that are several images, each with a part of the objects"
                self._notes[note].append(f"{found}, ids {first} and {entry.id}")
            if found != name:
                self._notes["images found by the last part of their file_name"].append(name)
            path = (self.path.parent if folder is None else folder) / found
            records.append(ImageRecord(entry.id, path, entry.height, entry.width))
            self.digest.update(f"{name}\0{size}\n".encode(errors="surrogatepass"))
        return records

    def annotations(
        self, images: list[ImageRecord], names: Mapping[int, str]
    ) -> dict[int, list[Annotation]]:
        """The annotations that are valid and cover a pixel, by image id."""
        sizes = {image.id: (image.height, image.width) for image in images}
        labels = {number: label for label, number in enumerate(names)}
        listed = {whole_number(e.get("id")) for e in self._content["images"] if isinstance(e, dict)}
        left_out = listed - {None, *sizes}
        by_image: dict[int, list[Annotation]] = {image_id: [] for image_id in sizes}
        if not self._content["annotations"]:
            self._notes["the list of annotations is empty"] = []
        # Annotations of an image that was left out go with it, without a line each.
        kept = (
            e
            for e in _emptied(self._content["annotations"])
            if not (isinstance(e, dict) and whole_number(e.get("image_id")) in left_out)
        )
        for entry in self._entries(_Annotation, kept):
            size, label = sizes.get(entry.image_id), labels.get(entry.category_id)
            if size is None:
                self._problem(f"annotation {entry.id} is for an unknown image, id {entry.image_id}")
            elif label is None:
                self._problem(f"{entry} has an unknown category, id {entry.category_id}")
            else:
                try:
                    if found := self._annotation(entry, label, size):
                        by_image[entry.image_id].append(found)
                except ValueError as error:
                    self._problem(f"{entry} {error}")
        return by_image

    def notes(self, names: Iterable[str]) -> list[str]:
        """A line on each way in which the file is unusual, given the class names."""
        lines = [
            f"{what}: {len(entries)} ({shortened(entries)})" if entries else what
            for what, entries in self._notes.items()
        ]
        return [f"{self.path}: {line}" for line in lines + self._crowd_notes(list(names))]

    def _annotation(
        self, entry: _Annotation, label: int, size: tuple[int, int]
    ) -> Annotation | None:
        """The annotation; None if it covers no pixel."""

        def note(what: str) -> None:
            self._notes[what].append(str(entry))

        area, box = entry.area, _box_within(entry.bbox, *size)
        segmentation = read_segmentation(entry.segmentation, *size, note)
        if not area or box is None or not covers_certainly(segmentation):
            code = to_rle(segmentation, *size)
            pixels = int(coco_mask.area(code))
            if not pixels:
                if area and isinstance(entry.segmentation, dict):
                    raise ValueError(f"has area {area:g}, but its run lengths cover no pixel")
                note("annotations that cover no pixel (left out)")
                return None
            if area == 0 and box is None and entry.bbox is not None:
                raise ValueError(
                    f"has bbox and area 0, but its mask has area {pixels}; write those "
                    "of the mask, or neither"
                )
            if not area:
                has = "no area" if area is None else "area 0"
                note(f"annotations with {has} (counted from the mask)")
                area = float(pixels)
            if box is None:
                has = "no bbox" if entry.bbox is None else "a bbox of no area in the image"
                note(f"annotations with {has} (taken from the mask)")
                box = tuple(coco_mask.toBbox(code).tolist())
        if entry.iscrowd is None:
            note("annotations without iscrowd, read as 0")
        crowd = bool(entry.iscrowd) and not self.crowds_as_instances
        self._forms[label, crowd, isinstance(entry.segmentation, dict)] += 1
        return Annotation(entry.id, label, box, area, segmentation, crowd, size)

    def _crowd_notes(self, names: list[str]) -> list[str]:
        """A line on each class of crowds only, and one if an exporter's habit is recognised.

        Some exporters set ``iscrowd`` for other reasons than COCO: datumaro for every mask,
        supervision for each object with holes or several pieces.
        """
        crowds: Counter[int] = Counter()
        instances: Counter[int] = Counter()
        for (label, crowd, _), count in self._forms.items():
            (crowds if crowd else instances)[label] += count
        if not instances:  # reported as the reason why there is nothing to learn
            return []
        remedy = "crowds are not learned; if these are single objects, use --crowds-as-instances"
        lines = [
            f"all annotations of class {names[label]!r} ({crowds[label]}) have iscrowd 1; {remedy}"
            for label in sorted(crowds.keys() - instances.keys())
        ]
        total = crowds.total() + instances.total()
        if crowds.total() > _SUSPICIOUS_SHARE * total and all(
            crowd == run_lengths for _, crowd, run_lengths in self._forms
        ):
            counts = ", ".join(f"{names[label]} {crowds[label]}" for label in sorted(crowds))
            lines.append(
                f"{crowds.total()} of {total} annotations have iscrowd 1, all run lengths and no "
                "polygon, as some exporters write single objects with holes or several pieces "
                f"({counts}); {remedy}"
            )
        return lines

    def _entries(self, model: type[_Entry], entries: Iterable[object]) -> Iterator[_Entry]:
        """The valid entries of a list, in its order."""
        kind = model.__name__[1:].lower()
        seen: set[int] = set()
        for entry in entries:
            try:
                read = model.model_validate(entry)
            except ValidationError as error:
                self._problem(_what_is_wrong(kind, model, entry, error))
                continue
            if read.id in seen:
                self._problem(f"{kind} id {read.id} occurs more than once")
                continue
            seen.add(read.id)
            yield read

    def _problem(self, line: str) -> None:
        self.problems.append(f"{self.path}: {line}")


def _emptied(entries: list[Any]) -> Iterator[Any]:
    """The entries, each freed once it is used."""
    entries.reverse()
    while entries:
        yield entries.pop()


def _compact(entry: dict[str, Any]) -> dict[str, Any]:
    """Store polygons in a quarter of the memory of Python's numbers, as soon as they are parsed."""
    if type(polygons := entry.get("segmentation")) is list:
        with suppress(TypeError, OverflowError):  # reported when it is read
            entry["segmentation"] = [array("d", polygon) for polygon in polygons]
    return entry


def _what_is_wrong(kind: str, model: type[BaseModel], entry: Any, error: ValidationError) -> str:
    if not isinstance(entry, dict):
        return f"an entry of the {kind} list is {entry!r:.40}, not an object"
    first = error.errors()[0]
    field = str(first["loc"][0])
    name = f"{kind} {entry.get('id')!r:.40}"
    if kind == "annotation" and "image_id" in entry:
        name += f" (image {entry['image_id']!s:.80})"
    if field not in entry:
        return f"{name} has no {field}"
    what = first["msg"].replace("Input should be", f"{'.'.join(map(str, first['loc']))} must be")
    hint = model.model_fields[field].description
    return f"{name} has {field} {entry[field]!r:.80}; {what}" + (f" ({hint})" if hint else "")


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
