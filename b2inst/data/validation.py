"""The entries of a COCO annotation file, one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from annotated_types import Ge, Gt, Le
from pydantic import AliasChoices, AllowInfNan, BaseModel, BeforeValidator, Field, Strict
from pydantic import ValidationError as _ValidationError


def whole_number(value: object) -> int | None:
    """Convert a whole number, also if it is written as 7.0; None for anything else."""
    if type(value) is int:
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else None


def shortened(names: Sequence[str], shown: int = 5) -> str:
    """Join the first of some names with commas."""
    return ", ".join([*names[:shown], *["…"] * (len(names) > shown)])


_Whole = Annotated[int, Strict(), BeforeValidator(whole_number)]
_Number = Annotated[float, Strict(), AllowInfNan(False)]
_Size = Annotated[_Number, Ge(0)]


class CategoryEntry(BaseModel):
    """An entry of ``categories``."""

    id: _Whole
    name: str


class ImageEntry(BaseModel):
    """An entry of ``images``."""

    id: _Whole
    file_name: str | None = Field(  # LVIS has the address only
        default=None, validation_alias=AliasChoices("file_name", "coco_url")
    )
    height: Annotated[_Whole, Gt(0)]
    width: Annotated[_Whole, Gt(0)]

    def __str__(self) -> str:
        return f"image {self.id}" + (f" ({self.file_name})" if self.file_name else "")


class AnnotationEntry(BaseModel):
    """An entry of ``annotations``."""

    id: _Whole
    image_id: _Whole
    category_id: _Whole
    segmentation: Any = None
    bbox: tuple[_Number, _Number, _Size, _Size] | None = Field(
        default=None, description="x, y, width, height in pixels"
    )
    area: _Size | None = None  #: pixels
    iscrowd: Annotated[int, Ge(0), Le(1)] | None = Field(
        default=None, description="write 0, or 1 for a crowd"
    )

    def __str__(self) -> str:
        return f"annotation {self.id} (image {self.image_id})"


Entry = TypeVar("Entry", CategoryEntry, ImageEntry, AnnotationEntry)


def read_entry(model: type[Entry], entry: object, seen: set[int]) -> Entry:
    """Read an entry and add its id to ``seen``.

    Raises:
        ValueError: It is invalid, or its id was seen; half a line with id, field and value.
    """
    kind = model.__name__.removesuffix("Entry").lower()
    if not isinstance(entry, dict):
        raise ValueError(f"an entry of the {kind} list is {entry!r:.40}, not an object")
    try:
        read = model.model_validate(entry)
    except _ValidationError as error:
        raise ValueError(_what_is_wrong(kind, model, entry, error)) from None
    if read.id in seen:
        raise ValueError(f"{kind} id {read.id} occurs more than once")
    seen.add(read.id)
    return read


def _what_is_wrong(
    kind: str, model: type[BaseModel], entry: dict[str, Any], error: _ValidationError
) -> str:
    first = error.errors()[0]
    field = str(first["loc"][0])
    name = f"{kind} {entry.get('id')!r:.40}"
    if kind == "annotation" and "image_id" in entry:
        name += f" (image {entry['image_id']!s:.80})"
    if field not in entry:
        return f"{name} has no {field}"
    place = ".".join(map(str, first["loc"]))
    what = first["msg"].replace("Input should be", f"{place} must be")
    hint = model.model_fields[field].description
    return f"{name} has {field} {entry[field]!r:.80}; {what}" + (f" ({hint})" if hint else "")
