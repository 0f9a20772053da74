"""Download of COCO 2017 from its site, https://cocodataset.org/#download."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

from tqdm import tqdm

from b2inst.data.download import address, download
from b2inst.data.errors import DataError
from b2inst.data.files import disk_errors, locked

#: Plain HTTP, as published: the host's certificate is for another name. Checksums protect the data.
SITE = "http://images.cocodataset.org"


@dataclass(frozen=True)
class Archive:
    """A zip of COCO. COCO publishes no checksums; docs/data.md says where these come from."""

    path: str  #: below the site's address, and below a mirror's
    md5: str
    size: int | None  #: bytes, where more than one source names them

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def unpacked(self) -> int:
        """Upper bound in bytes: JPEGs hardly shrink in a zip, JSON to a half or less."""
        return int((self.size or 0) * (1.05 if self.path.startswith("zips/") else 2))


@dataclass(frozen=True)
class Split:
    """Images and annotations of a split."""

    name: str  #: of its folder, on the site as here
    images: Archive
    count: int  #: of the images
    annotations: Archive
    member: str  #: path of the annotation file, in its archive as here
    annotation_bytes: int | None  #: where more than one source names them


_INSTANCES = Archive(
    "annotations/annotations_trainval2017.zip", "f4bbac642086de4f52a3fdda2de5fa2c", 252_907_541
)
_TEST_INFO = Archive(
    "annotations/image_info_test2017.zip", "85da7065e5e600ebfee8af1edb634eb5", None
)
SPLITS: Mapping[str, Split] = {
    name: Split(
        f"{name}2017", Archive(f"zips/{name}2017.zip", md5, zipped), count, annotations,
        f"annotations/{member}2017.json", size,
    )
    for name, count, md5, zipped, annotations, member, size in (
        ("train", 118_287, "cced6f7f71b7629ddf16f17bbcfab6b2", 19_336_861_798,
         _INSTANCES, "instances_train", 469_785_474),
        ("val", 5_000, "442b8da7639aecaf257c1dceb8ba8c80", 815_585_330,
         _INSTANCES, "instances_val", 19_987_840),
        ("test", 40_670, "77ad2c53ac5d0aea611d422c0938fb35", 6_646_970_404,
         _TEST_INFO, "image_info_test-dev", None),
    )
}  # fmt: skip


def fetch_coco(
    root: Path | str,
    *,
    splits: Sequence[str] = ("train", "val"),
    mirror: str = SITE,
    keep_zips: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Download, check and unpack the splits that are missing; rerun to resume.

    Images and annotations of a split are written completely or not at all.

    Args:
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
    chosen = sorted((SPLITS[name] for name in set(splits)), key=lambda split: split.count)
    busy = DataError(f"{root}: another process is downloading to it; wait for it or end it")
    aside = root / ".partial"
    with disk_errors(root), locked(root, busy):
        shutil.rmtree(aside, ignore_errors=True)  # left by a call that was killed
        wanted = [(split, archive) for split in chosen for archive in _missing(root, split)]
        archives = {archive for _, archive in wanted}
        _check_space(root, archives)
        try:
            for split, archive in wanted:
                url, file = f"{base}/{archive.path}", root / archive.name
                download(url, file, size=archive.size, md5=archive.md5, progress=progress)
                _unpack(file, split.member if archive is split.annotations else split.name, aside)
                if archive is split.images and not keep_zips:
                    file.unlink()
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        if not keep_zips:
            for archive in archives:
                (root / archive.name).unlink(missing_ok=True)
    return [root / split.member for split in chosen]


def _missing(root: Path, split: Split) -> list[Archive]:
    """The archives that a split still needs; DataError if other data is in its place."""
    archives = []
    file, folder = root / split.member, root / split.name
    remedy = "move it away or choose another folder"
    if not os.path.lexists(folder):
        archives.append(split.images)
    elif not folder.is_dir() or len(os.listdir(folder)) != split.count:
        raise DataError(f"{folder}: is not COCO's folder of {split.count:,} images; {remedy}")
    if not file.exists():
        archives.append(split.annotations)
    elif split.annotation_bytes not in (None, file.stat().st_size):
        raise DataError(f"{file}: is not COCO's file of {split.annotation_bytes:,} bytes; {remedy}")
    return archives


def _check_space(root: Path, archives: Iterable[Archive]) -> None:
    """Stop before the download where the disk would fill up."""
    needed = 0
    for archive in archives:
        there = [root / archive.name, root / f"{archive.name}.partial"]
        have = sum(path.stat().st_size for path in there if path.exists())
        needed += archive.unpacked + max(0, (archive.size or 0) - have)
    if (free := shutil.disk_usage(root).free) < needed:
        raise DataError(
            f"{root}: {needed / 1e9:.1f} GB of disk space needed, {free / 1e9:.1f} GB free; make "
            "room, choose another folder, or download less (--splits val)"
        )


def _unpack(archive: Path, member: str, aside: Path) -> None:
    """Extract a file or folder to where the archive is, by way of a temporary folder."""
    with ZipFile(archive) as file:
        names = [
            name for name in file.namelist() if name == member or name.startswith(f"{member}/")
        ]
        for name in tqdm(names, desc=f"unpacking {member}", disable=len(names) == 1):
            file.extract(name, aside)
    target = archive.parent / member
    target.parent.mkdir(exist_ok=True)
    (aside / member).rename(target)
