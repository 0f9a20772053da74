"""Image files: reading them, listing them, and finding those of an annotation file."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from b2inst.data.wording import BadFileError, DataError
from b2inst.ops.images import load, open_image, orientation, upright_rgb

Bytes = NDArray[np.uint8]

#: Formats that Pillow opens but that hold no photograph: drawings, films, arrays, metadata.
_NO_PHOTOGRAPHS = {"BUFR", "EPS", "FLI", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image of the set, not yet read."""

    id: int
    path: Path
    height: int
    width: int


def read_image(path: Path | str) -> Image.Image:
    """Read an image of any format that Pillow opens as upright 8-bit RGB.

    Raises:
        BadFileError: The file is missing, not an image, truncated, or larger than Pillow's limit.
    """
    with _opened(path) as image:
        return upright_rgb(image)


def read_record(record: ImageRecord) -> Image.Image:
    """Read the image of a record; BadFileError also if it has another size than the record."""
    image = read_image(record.path)
    check_size(record, image.height, image.width)
    return image


def probe_image(path: Path | str) -> tuple[int, int]:
    """(height, width) of the upright image; raises as ``read_image``, and is faster."""
    with _opened(path) as image:
        width, height = image.size
        drafted = image.draft("RGB", (64, 64))  # a JPEG is decoded to no less than this
        load(image)
        if drafted is None:  # the size that other formats state may change when they are loaded
            width, height = image.size
        return (width, height) if orientation(image) >= 5 else (height, width)


def as_array(image: Image.Image) -> Bytes:
    """H×W×3 uint8, writable and contiguous."""
    return np.array(image, dtype=np.uint8)


def check_size(record: ImageRecord, height: int, width: int) -> None:
    """Raise a BadFileError if the size is not the one that the annotations are for."""
    if (height, width) != (record.height, record.width):
        raise BadFileError(
            f"{record.path}: the upright image is {width}×{height} but its annotations say "
            f"{record.width}×{record.height}; correct one of them"
        )


def image_suffixes() -> set[str]:
    """The endings of image files that Pillow reads, in lower case, such as ``.jpg``."""
    Image.init()
    readable = Image.OPEN.keys() - _NO_PHOTOGRAPHS | {"MPO"}  # which Pillow opens as JPEG
    return {end for end, kind in Image.registered_extensions().items() if kind in readable}


def walk_images(folder: Path) -> list[Path]:
    """The image files in a folder and its subfolders, sorted, without hidden ones of either."""
    suffixes = image_suffixes()
    images = (path for path in walk_files(folder) if path.suffix.lower() in suffixes)
    return [p for p in images if "/." not in f"/{p.relative_to(folder).as_posix()}"]


def walk_files(folder: Path) -> list[Path]:
    """The files in a folder and its subfolders, sorted, also in linked ones, but not in circles."""
    return sorted(Path(path, name) for path, names in _walk(folder) for name in names)


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Each folder and the names of its files; links to what holds a folder on the way are left."""
    for path, folders, names in os.walk(folder, followlinks=True):
        if links := {f: Path(path, f).resolve() for f in folders if Path(path, f).is_symlink()}:
            way = [passed.resolve() for passed in (Path(path), *Path(path).parents)]
            back = {f for f, to in links.items() if any(p.is_relative_to(to) for p in way)}
            folders[:] = [f for f in folders if f not in back]
        yield path, names


def file_names(images: Iterable[Path], *, folders: Iterable[Path] = ()) -> dict[str, Path]:
    """Images by their path relative to the deepest folder that contains them and ``folders``."""
    paths = {os.path.abspath(path): path for path in images}
    holding = [*map(os.path.dirname, paths), *map(os.path.abspath, folders)]
    folder = os.path.commonpath(holding) if paths else ""
    return {PurePath(os.path.relpath(k, folder)).as_posix(): path for k, path in paths.items()}


def find_image_files(image_dir: Path, names: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Find the files of the given names that exist and are not empty: their paths and sizes.

    A name that is a web address, has folders that do not exist, or has letters in another case is
    found by its last parts, as many as it shares with only one file, which shares them with no
    other such name.

    Raises:
        DataError: There is no such folder.
    """
    if not image_dir.is_dir():
        raise DataError(f"{image_dir}: no such image folder")
    sizes = {
        os.path.relpath(file.path, image_dir): length
        for folder, _ in _walk(image_dir)
        for file in os.scandir(folder)
        if file.is_file() and (length := file.stat().st_size)
    }
    found, missing = {}, []
    for name in dict.fromkeys(names):
        if size := sizes.get(os.path.normpath(name)):
            found[name] = name, size
        else:
            missing.append(name)
    files, others = defaultdict(list), defaultdict(list)  # by each of their endings
    for path in sizes.keys() - map(os.path.normpath, found):
        for ending in _endings(path):
            files[ending].append(path)
    for name in missing:
        for ending in _endings(name):
            others[ending].append(name)
    for name in missing:
        known = next((ending for ending in _endings(name) if ending in files), "")
        if len(paths := files[known]) == len(others[known]) == 1:
            found[name] = paths[0], sizes[paths[0]]
    return found


def _endings(name: str) -> list[str]:
    """A path of any system, or of a web address, in lower case, without ever more first parts."""
    if "://" in name:
        name = unquote(urlsplit(name).path)
    plain = unicodedata.normalize("NFC", name.replace("\\", "/")).casefold().strip("/")
    parts = plain.split("/")
    return ["/".join(parts[k:]) for k in range(len(parts))]


@contextmanager
def _opened(path: Path | str) -> Iterator[Image.Image]:
    try:
        with open_image(path) as image:
            yield image
    except FileNotFoundError:
        raise BadFileError(f"{path}: no such image; restore it") from None
    except UnidentifiedImageError as error:
        raise BadFileError(str(error)) from error
