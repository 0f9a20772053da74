"""Reads an annotation file and collects what is wrong or unusual in it."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Gt, Le
from pycocotools import mask as coco_mask
from pydantic import AllowInfNan, BaseModel, BeforeValidator, Strict, ValidationError

from b2inst.data.images import ImageRecord, find_image_files
from b2inst.data.segmentation import BORDER_TOLERANCE, Annotation, fits_mask, read_segmentation
from b2inst.data.wording import DataError, shortened

#: COCO has 1 to 2 % crowds. A larger share that coincides with run lengths is an exporter's.
_SUSPICIOUS_SHARE = 0.05

_MAX_PIXELS = 2**31  # pycocotools counts them in 32 bits
_LISTS = ("images", "annotations", "categories")
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")


def whole_number(value: object) -> int | None:
    """Convert a whole number, also if it is written as 7.0; None for anything else."""
    if type(value) is int:
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


_Whole = Annotated[int, Strict(), BeforeValidator(whole_number)]
_Number = Annotated[float, Strict(), AllowInfNan(False)]
_Size = Annotated[_Number, Ge(0)]
_Box = tuple[_Number, _Number, _Size, _Size]  # x, y, width, height in pixels


class _Category(BaseModel, coerce_numbers_to_str=True):
    id: _Whole
    name: str


class _Image(BaseModel):
    id: _Whole
    file_name: str | None = None  # not needed if only the annotations are
    height: Annotated[_Whole, Gt(0)]
    width: Annotated[_Whole, Gt(0)]

    def __str__(self) -> str:
        return f"image {self.id}" + (f" ({self.file_name})" if self.file_name else "")


class _Annotation(BaseModel):
    id: _Whole
    image_id: _Whole
    category_id: _Whole
    segmentation: Any = None
    bbox: Annotated[_Box | None, BeforeValidator(lambda box: None if box == [] else box)] = None
    area: _Size | None = None  # pixels
    iscrowd: Annotated[int, Ge(0), Le(1)] | None = None

    def __str__(self) -> str:
        return f"annotation {self.id} (image {self.image_id})"


_Entry = TypeVar("_Entry", _Category, _Image, _Annotation)


class CocoReader:
    """Reads what is valid in the lists of an annotation file; for ``CocoIndex.load``, see there."""

    def __init__(
        self,
        source: Path | str | Mapping[str, Any],
        folder: Path | None,
        *,
        annotated: bool,
        crowds_as_instances: bool,
    ) -> None:
        self.problems: list[str] = []
        self.digest = hashlib.sha256()  # of the file's bytes, then of the images' names and sizes
        self._crowds_as_instances = crowds_as_instances
        # What was read in another way than the file has it, and the entries where.
        self._notes: defaultdict[str, list[str]] = defaultdict(list)
        self._forms: Counter[tuple[int, bool, bool]] = Counter()  # label, crowd, run lengths
        self.path = Path("annotations") if isinstance(source, Mapping) else Path(source)
        content = _as_file(source) if isinstance(source, Mapping) else self._parse()
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
        listed = {whole_number(e.get("id")) for e in content["images"] if isinstance(e, dict)}
        del content  # so that entries are freed once they are used
        self.names = self._read_categories()  # by id, in ascending order
        self.images = self._read_images(folder)
        self._sizes = {image.id: (image.height, image.width) for image in self.images}
        self._labels = {number: label for label, number in enumerate(self.names)}
        self.annotations: dict[int, list[Annotation]] = {image_id: [] for image_id in self._sizes}
        left_out = listed - self._sizes.keys()
        for entry in self._entries(_Annotation, "annotations"):
            if entry.image_id in left_out:  # goes with its image, without a line of its own
                continue
            try:
                if found := self._read_annotation(entry):
                    self.annotations[entry.image_id].append(found)
            except ValueError as error:
                self._problem(f"{entry} {error}")

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

    def _read_categories(self) -> dict[int, str]:
        found = sorted(self._entries(_Category, "categories"), key=lambda category: category.id)
        names = {category.id: category.name for category in found}
        if not names:
            nothing = f"{self.path}: no categories; a COCO file lists its classes there"
            raise DataError(next(iter(self.problems), nothing))
        numbers: defaultdict[str, list[str]] = defaultdict(list)
        for number, name in names.items():
            numbers[name].append(str(number))
        for name, shared in numbers.items():
            if len(shared) > 1:
                note = "names of several categories (each is a class of its own)"
                self._notes[note].append(f"{name!r}, ids {' and '.join(shared)}")
        return names

    def _read_images(self, folder: Path | None) -> list[ImageRecord]:
        entries = list(self._entries(_Image, "images"))
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
                note = "files that are several images, each with objects of its own"
                self._notes[note].append(f"{found}, ids {first} and {entry.id}")
            if found != name:
                self._notes["images found by the last part of their file_name"].append(name)
            path = (folder or self.path.parent) / found
            records.append(ImageRecord(entry.id, path, entry.height, entry.width))
            self.digest.update(f"{name}\0{size}\n".encode(errors="surrogatepass"))
        return records

    def _read_annotation(self, entry: _Annotation) -> Annotation | None:
        """The annotation; None if it covers no pixel."""

        def note(what: str) -> None:
            self._notes[what].append(str(entry))

        if entry.image_id not in self._sizes:
            raise ValueError(f"is for an unknown image, id {entry.image_id}")
        if entry.category_id not in self._labels:
            raise ValueError(f"has an unknown category, id {entry.category_id}")
        height, width = self._sizes[entry.image_id]
        area, box = entry.area, entry.bbox
        if box is not None:
            x, y, w, h = box
            t = BORDER_TOLERANCE
            if x < -t or y < -t or x + w > width + t or y + h > height + t:
                raise ValueError(
                    f"has bbox {list(box)} outside its {width}×{height} image; boxes are x, y, "
                    "width, height"
                )
            if max(x, 0) >= min(x + w, width) or max(y, 0) >= min(y + h, height):
                box = None
        code = read_segmentation(entry.segmentation, height, width, note)
        pixels = int(coco_mask.area(code))
        if not pixels:
            if area and isinstance(entry.segmentation, dict):
                raise ValueError(f"has area {area:g}, but its run lengths cover no pixel")
            note("annotations that cover no pixel (left out)")
            return None
        if area == 0 and box is None and entry.bbox is not None:
            raise ValueError(
                f"has bbox and area 0, but its mask has area {pixels}; write those of the mask, "
                "or neither"
            )
        if not area:
            note("annotations with no area (counted from the mask)")
            area = float(pixels)
        elif isinstance(entry.segmentation, list) and pixels > 1.1 * area + 50:
            note("annotations whose polygons cover more than their area (holes are filled)")
        elif entry.iscrowd != 1 and area > 1.1 * pixels + 50:
            note(
                "annotations whose area is larger than their mask (it says what is small or large)"
            )
        if box is None or not fits_mask(box, code, entry.segmentation):
            wrong = "a bbox that is not x, y, width, height of their mask in pixels"
            what = "no bbox in the image" if box is None else wrong
            note(f"annotations with {what} (taken from the mask)")
            box = tuple(coco_mask.toBbox(code).tolist())
        if entry.iscrowd is None:
            note("annotations without iscrowd, read as 0")
        label = self._labels[entry.category_id]
        crowd = entry.iscrowd == 1 and not self._crowds_as_instances
        self._forms[label, crowd, isinstance(entry.segmentation, dict)] += 1
        return Annotation(entry.id, label, box, area, code, crowd)

    def notes(self) -> list[str]:
        """A line on each way in which the file is unusual."""
        lines = [
            f"{what}: {len(entries)} ({shortened(entries)})" if entries else what
            for what, entries in self._notes.items()
        ]
        return [f"{self.path}: {line}" for line in lines + self._crowd_notes()]

    def _crowd_notes(self) -> list[str]:
        """A line on each class of crowds only, and one if an exporter's habit is recognised.

        Some exporters set ``iscrowd`` for other reasons than COCO: datumaro for every mask,
        supervision for each object with holes or several pieces.
        """
        instances = {label for label, crowd, _ in self._forms if not crowd}
        if not instances:  # reported as the reason why there is nothing to learn
            return []
        names = list(self.names.values())
        crowds: Counter[int] = Counter()
        for (label, crowd, _), count in sorted(self._forms.items()):
            crowds += Counter({label: count * crowd})  # keeps those above 0
        remedy = "crowds are not learned; if these are single objects, use --crowds-as-instances"
        lines = [
            f"all annotations of class {names[label]!r} ({count}) have iscrowd 1; {remedy}"
            for label, count in crowds.items()
            if label not in instances
        ]
        many = crowds.total() > _SUSPICIOUS_SHARE * self._forms.total()
        if many and all(crowd == run_lengths for _, crowd, run_lengths in self._forms):
            counts = ", ".join(f"{names[label]} {count}" for label, count in crowds.items())
            lines.append(
                f"{crowds.total()} of {self._forms.total()} annotations have iscrowd 1, all run "
                "lengths and no polygon, as some exporters write single objects with holes or "
                f"several pieces ({counts}); {remedy}"
            )
        return lines

    def _entries(self, model: type[_Entry], key: str) -> Iterator[_Entry]:
        """The valid entries of a list, in its order, each freed once it is used."""
        kind = model.__name__[1:].lower()
        seen: set[int] = set()
        entries = self._content[key]
        entries.reverse()
        while entries:
            entry = entries.pop()
            try:
                read = model.model_validate(entry)
            except ValidationError as error:
                self._problem(_what_is_wrong(kind, entry, error))
                continue
            if read.id in seen:
                self._problem(f"{kind} id {read.id} occurs more than once")
                continue
            seen.add(read.id)
            yield read

    def _problem(self, line: str) -> None:
        self.problems.append(f"{self.path}: {line}")


def _as_file(content: Mapping[str, Any]) -> Any:
    """The content as a file would have it, with Python's values in place of NumPy's."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return dict(value)
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        return value.tolist() if hasattr(value, "tolist") else str(value)

    return json.loads(json.dumps(content, default=plain), object_hook=_compact)


def _compact(entry: dict[str, Any]) -> dict[str, Any]:
    """Store polygons in a quarter of the memory of Python's numbers, as soon as they are parsed."""
    if type(polygons := entry.get("segmentation")) is list:
        with suppress(TypeError, OverflowError):  # reported when it is read
            entry["segmentation"] = [array("d", polygon) for polygon in polygons]
    return entry


def _what_is_wrong(kind: str, entry: Any, error: ValidationError) -> str:
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
    return f"{name} has {field} {entry[field]!r:.80}; {what}"
