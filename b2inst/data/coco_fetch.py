"""Download of COCO 2017 from its site, https://cocodataset.org/#download."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from zipfile import ZipFile

from tqdm import tqdm

from b2inst.data.download import address, download
from b2inst.data.files import disk_errors, locked
from b2inst.data.wording import DataError

#: Plain HTTP, as published: the host's certificate is for another name. Checksums protect the data.
SITE = "http://images.cocodataset.org"


class Part(NamedTuple):
    """A folder of images or an annotation file, and the zip that contains it."""

    target: str  #: path in the zip, and in the folder to download to
    extent: int | None  #: number of images, or bytes of the file where they are known
    archive: str  #: path below the site's address
    md5: str  #: COCO publishes no checksums; docs/data.md says where these come from
    size: int  #: bytes of the zip; 0: unknown


_TRAINVAL = (
    "annotations/annotations_trainval2017.zip", "f4bbac642086de4f52a3fdda2de5fa2c", 252_907_541
)  # fmt: skip
_TEST = ("annotations/image_info_test2017.zip", "85da7065e5e600ebfee8af1edb634eb5", 0)

#: Images and annotations of each split.
SPLITS: Mapping[str, tuple[Part, Part]] = {
    "val": (
        Part("val2017", 5_000,
             "zips/val2017.zip", "442b8da7639aecaf257c1dceb8ba8c80", 815_585_330),
        Part("annotations/instances_val2017.json", 19_987_840, *_TRAINVAL),
    ),
    "test": (
        Part("test2017", 40_670,
             "zips/test2017.zip", "77ad2c53ac5d0aea611d422c0938fb35", 6_646_970_404),
        Part("annotations/image_info_test-dev2017.json", None, *_TEST),
    ),
    "train": (
        Part("train2017", 118_287,
             "zips/train2017.zip", "cced6f7f71b7629ddf16f17bbcfab6b2", 19_336_861_798),
        Part("annotations/instances_train2017.json", 469_785_474, *_TRAINVAL),
    ),
}  # fmt: skip


def fetch_coco(
    root: Path | str,
    *,
    splits: Sequence[str] = ("train", "val"),
    mirror: str = SITE,
    keep_zips: bool = False,
) -> list[Path]:
    """Download, check and unpack the splits that are missing; rerun to resume.

    Images and annotations of a split are written completely or not at all.

    Args:
        root: Folder to download to.
        splits: Of ``train``, ``val``, ``test``.
        mirror: Address below which the files are as on COCO's own site.
        keep_zips: Whether to leave the archives in ``root``.

    Returns:
        The splits' annotation files.

    Raises:
        DataError: There is too little disk space or other data of these names (nothing is done
            then), or something cannot be downloaded or is not what it should be.
    """
    root, base = Path(root), address(mirror)
    if unknown := [name for name in splits if name not in SPLITS]:
        raise DataError(f"no split {unknown[0]!r} of COCO; there are {', '.join(SPLITS)}")
    chosen = [parts for name, parts in SPLITS.items() if name in splits]
    busy = DataError(f"{root}: another process is downloading to it; wait for it or stop it")
    with disk_errors(root), locked(root, busy):
        missing = [part for parts in chosen for part in parts if not _is_there(root, part)]
        zips = {root / Path(part.archive).name: part for part in missing}
        _check_space(root, {file: part.size for file, part in zips.items()})
        for part in missing:
            file = root / Path(part.archive).name
            download(f"{base}/{part.archive}", file, size=part.size or None, md5=part.md5)
            _unpack(file, part.target)
            if "/" not in part.target and not keep_zips:
                file.unlink()  # of images, which no other part needs
        for file in () if keep_zips else zips:
            file.unlink(missing_ok=True)
    return [root / annotations.target for _, annotations in chosen]


def _is_there(root: Path, part: Part) -> bool:
    """Whether a part is complete; DataError if other data is in its place."""
    path = root / part.target
    if not os.path.lexists(path):
        return False
    extent = len(os.listdir(path)) if path.is_dir() else path.stat().st_size
    if path.is_dir() == ("/" in part.target) or part.extent not in (None, extent):
        raise DataError(
            f"{path}: is not COCO's, which has {part.extent} images or bytes; move it away or "
            "choose another folder"
        )
    return True


def _check_space(root: Path, zips: Mapping[Path, int]) -> None:
    """Stop before the download where the disk would fill up."""
    needed = 0.0
    for file, size in zips.items():
        partial = file.with_name(f"{file.name}.partial")
        have = sum(path.stat().st_size for path in (file, partial) if path.exists())
        # JPEGs hardly shrink in a zip, JSON to a half or less.
        needed += max(0, size - have) + size * (2 if "annotations" in file.name else 1.05)
    if (free := shutil.disk_usage(root).free) < needed:
        raise DataError(
            f"{root}: {needed / 1e9:.1f} GB of disk space needed, {free / 1e9:.1f} GB free; make "
            "room, choose another folder, or download less (--splits val)"
        )


def _unpack(archive: Path, target: str) -> None:
    aside = archive.parent / ".partial"
    shutil.rmtree(aside, ignore_errors=True)  # left by a call that was killed
    try:
        with ZipFile(archive) as file:
            names = [n for n in file.namelist() if n == target or n.startswith(f"{target}/")]
            for name in tqdm(names, desc=f"unpacking {target}", disable=None):
                file.extract(name, aside)
        (archive.parent / target).parent.mkdir(exist_ok=True)
        (aside / target).rename(archive.parent / target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
