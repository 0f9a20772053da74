"""Image files: which files are images, their names, and where those of an annotation file are."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from urllib.parse import unquote, urlsplit

from PIL import Image

from b2inst.data.errors import DataError

#: Formats that Pillow opens but that hold no photograph: drawings, films, arrays, metadata.
_NO_PHOTOGRAPHS = {"BUFR", "EPS", "FLI", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}


@dataclass(frozen=True)
class ImageFile:
    """A file of an image folder."""

    name: str  #: relative to the folder
    size: int  #: bytes
    by_base_name: bool = False  #: the annotation file has it in another folder


def image_suffixes() -> set[str]:
    """The endings of image files that Pillow reads, in lower case, such as ``.jpg``."""
    Image.init()
    readable = Image.OPEN.keys() - _NO_PHOTOGRAPHS | {"MPO"}  # which Pillow opens as JPEG
    return {end for end, kind in Image.registered_extensions().items() if kind in readable}


def walk_images(folder: Path) -> list[Path]:
    """The image files in a folder and its subfolders, sorted; hidden ones are passed over."""
    suffixes = image_suffixes()
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )


def file_names(images: Iterable[Path], *, folders: Iterable[Path] = ()) -> dict[str, Path]:
    """Images by their path relative to the deepest folder that holds all of them, and ``folders``.

    Images of one folder thus go by their plain names. The same image twice is one.
    """
    paths = {os.path.abspath(path): path for path in images}
    holding = [*map(os.path.dirname, paths), *map(os.path.abspath, folders)]
    folder = os.path.commonpath(holding) if paths else ""
    return {PurePath(os.path.relpath(k, folder)).as_posix(): path for k, path in paths.items()}


def find_image_files(image_dir: Path, names: Iterable[str]) -> dict[str, ImageFile]:
    """The files of the names that are there and not empty; DataError if there is no such folder.

    A name that is a web address, has folders that are not there, or has letters in another case is
    found by its last part if only one file, and only one name, has it.
    """
    if not image_dir.is_dir():
        raise DataError(f"{image_dir}: no such image folder")
    names = dict.fromkeys(names)
    # Listing each folder once is far faster on a network disk than asking for each file.
    listed = {folder: _sizes(image_dir / folder) for folder in {os.path.dirname(n) for n in names}}
    found = {}
    for name in names:
        folder, base = os.path.split(name)
        if size := listed[folder].get(base):
            found[name] = ImageFile(name, size)
    missing = [name for name in names if name not in found]
    if missing:
        found |= _by_base_name(image_dir, missing, taken=set(found))
    return found


def _by_base_name(image_dir: Path, names: list[str], *, taken: set[str]) -> dict[str, ImageFile]:
    wanted = defaultdict(list)
    for name in names:
        wanted[_base_name(name)].append(name)
    files = defaultdict(list)
    for folder, _, _ in os.walk(image_dir):
        inside = os.path.relpath(folder, image_dir)
        for base, size in _sizes(Path(folder)).items():
            key = _base_name(base)
            if key in wanted and size:
                files[key].append(
                    ImageFile(os.path.normpath(os.path.join(inside, base)), size, True)
                )
    return {
        wanted[base][0]: candidates[0]
        for base, candidates in files.items()
        if len(candidates) == len(wanted[base]) == 1 and candidates[0].name not in taken
    }


def _base_name(name: str) -> str:
    """The last part of a path of any system, or of a web address, in lower case."""
    if "://" in name:
        name = unquote(urlsplit(name).path)
    return unicodedata.normalize("NFC", name.replace("\\", "/").rsplit("/", 1)[-1]).casefold()


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of the files of a folder, if it is there; a link that leads nowhere is no file."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    except OSError:
        return {}
