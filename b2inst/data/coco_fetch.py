"""COCO 2017 from its site, https://cocodataset.org/#download: splits, or a few images of val."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from tqdm import tqdm

from b2inst.data.download import download
from b2inst.data.errors import DataError
from b2inst.data.files import locked, replacing
from b2inst.data.images import probe_image

#: Plain HTTP, as published: the host's certificate is of another name. Checksums tell what came.
SITE = "http://images.cocodataset.org"

_IMAGE_NAME = r"\d{12}\.jpg"
_IMAGE_BYTES = 250_000  # more than one takes on average
_CONNECTIONS = 8
_MARK = "b2inst_subset"  # in the "info" of a reduced annotation file
_REMEDY = "move it away or choose another folder"


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
        """Bytes at most: JPEGs hardly become smaller in a zip, JSON to a half or less."""
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
    """Fetch, check and unpack the splits that are not there yet; rerun to resume.

    A split is there as a whole or not at all, and replaces a subset (``fetch_coco_subset``).

    Args:
        splits: of ``train``, ``val``, ``test``.
        mirror: address below which the files lie as on COCO's own site.
        keep_zips: leave the archives in ``root``.

    Returns:
        The splits' annotation files.

    Raises:
        DataError: too little disk space or other data of these names, nothing done; or something
            cannot be fetched or is not what it should be.
    """
    root, base = Path(root), address(mirror)
    if unknown := [name for name in splits if name not in SPLITS]:
        raise DataError(f"no split {unknown[0]!r} of COCO; there are {', '.join(SPLITS)}")
    chosen = sorted((SPLITS[name] for name in set(splits)), key=lambda split: split.count)
    with _fetching_into(root) as aside:
        missing = {split: archives for split in chosen if (archives := _missing(root, split))}
        wanted = {archive for archives in missing.values() for archive in archives}
        _check_space(root, wanted, sum(archive.unpacked for archive in wanted))
        for split, archives in missing.items():
            for archive in archives:
                _fetch_archive(root, archive, base, progress)
            if split.images in archives:
                _unpack_images(root, split, aside, progress)
                if not keep_zips:
                    (root / split.images.name).unlink()
            if split.annotations in archives:
                with ZipFile(root / split.annotations.name) as file:
                    made = file.extract(split.member, aside)
                (root / split.member).parent.mkdir(exist_ok=True)
                os.replace(made, root / split.member)
        if not keep_zips:
            for archive in wanted:
                (root / archive.name).unlink(missing_ok=True)
    return [root / split.member for split in chosen]


def fetch_coco_subset(
    root: Path | str,
    images: int,
    *,
    mirror: str = SITE,
    keep_zips: bool = False,
    progress: bool = True,
) -> Path:
    """Fetch the first ``images`` of ``val2017`` by id that have an instance (crowds do not count).

    A larger subset extends a smaller one. The whole split, where it is there, stays as it is.

    Args:
        mirror, keep_zips: as for ``fetch_coco``.

    Returns:
        The annotation file, which is written last.

    Raises:
        DataError: as ``fetch_coco``; or there are fewer such images, or only the whole
            annotations are there, which are never reduced.
    """
    root, base, split = Path(root), address(mirror), SPLITS["val"]
    file, folder = root / split.member, root / split.name
    with _fetching_into(root):
        if _missing(root, split) == []:
            return file
        if _has_annotations(root, split):
            raise DataError(
                f"{file}: is COCO's whole annotation file, which a subset would reduce; complete "
                "it by --splits val, or choose another folder"
            )
        there = _subset(file)
        if len(there) >= images and all((folder / image["file_name"]).exists() for image in there):
            return file
        images = max(images, len(there))
        _check_space(root, [split.annotations], images * _IMAGE_BYTES)
        archive = _fetch_archive(root, split.annotations, base, progress)
        with ZipFile(archive) as zip_file:
            content = _reduce(json.loads(zip_file.read(split.member)), images)
        folder.mkdir(exist_ok=True)
        _fetch_images(f"{base}/{split.name}", folder, content["images"], progress)
        file.parent.mkdir(exist_ok=True)
        with replacing(file) as partial:
            partial.write_text(json.dumps(content))
        if not keep_zips:
            archive.unlink()
    return file


def address(mirror: str) -> str:
    """The address that archives' paths are appended to, checked."""
    if not re.match(r"https?://\w", mirror):
        raise DataError(f"--mirror {mirror}: an address begins with http:// or https://")
    return mirror.rstrip("/")


@contextmanager
def told_of_the_disk(root: Path) -> Iterator[None]:
    """Errors of the file system as one line with what to do."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or root}: cannot be written ({error.strerror or error}); "
            "make room or choose another folder, and rerun to resume"
        ) from error


@contextmanager
def _fetching_into(root: Path) -> Iterator[Path]:
    """Hold a folder for this process; gives an empty folder in it, gone afterwards."""
    busy = DataError(f"{root}: another process is fetching into it; wait for it or end it")
    aside = root / ".partial"
    with told_of_the_disk(root), locked(root, busy):
        shutil.rmtree(aside, ignore_errors=True)  # left by a call that was killed
        aside.mkdir()
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def _fetch_archive(root: Path, archive: Archive, base: str, progress: bool) -> Path:
    url, file = f"{base}/{archive.path}", root / archive.name
    return download(url, file, size=archive.size, md5=archive.md5, progress=progress)


def _check_space(root: Path, archives: Iterable[Archive], besides: int) -> None:
    """Stop before the first byte where the disk would fill up."""
    needed = besides
    for archive in archives:
        there = [root / archive.name, root / f"{archive.name}.partial"]
        needed += max(0, (archive.size or 0) - sum(p.stat().st_size for p in there if p.exists()))
    if (free := shutil.disk_usage(root).free) < needed:
        raise DataError(
            f"{root}: {needed / 1e9:.1f} GB of disk space needed, {free / 1e9:.1f} GB free; make "
            "room, choose another folder, or fetch less (--splits val, --subset 200)"
        )


def _has_annotations(root: Path, split: Split) -> bool:
    """Whether the whole annotation file of a split is there, told by its size."""
    file = root / split.member
    return file.is_file() and split.annotation_bytes in (None, file.stat().st_size)


def _missing(root: Path, split: Split) -> list[Archive]:
    """The archives that a split still needs; DataError if data of others lie in its place."""
    archives = []
    file, folder = root / split.member, root / split.name
    if not _has_annotations(root, split):
        if file.exists() and not _subset(file):
            raise DataError(
                f"{file}: has {file.stat().st_size:,} bytes, COCO's own {split.annotation_bytes:,}"
                f"; {_REMEDY}"
            )
        archives.append(split.annotations)
    names = os.listdir(folder) if folder.is_dir() else []
    others = [name for name in names if not re.fullmatch(_IMAGE_NAME, name)]
    if len(names) != split.count or others:
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise DataError(f"{folder}: is no folder of its own; {_REMEDY}")
        for name in others:
            if not name.endswith(".jpg.partial"):
                raise DataError(f"{folder / name}: is no image of COCO; {_REMEDY}")
        archives.append(split.images)
    return archives


def _unpack_images(root: Path, split: Split, aside: Path, progress: bool) -> None:
    made, folder = aside / split.name, root / split.name
    with ZipFile(root / split.images.name) as file:
        names = file.namelist()
        for name in tqdm(names, desc=f"unpacking {split.name}", disable=not progress):
            file.extract(name, aside)
    if folder.exists():
        if more := {path.name for path in folder.glob("*.jpg")} - set(os.listdir(made)):
            raise DataError(f"{folder / min(more)}: is not of this split; {_REMEDY}")
        folder.rename(aside / "old")
    made.rename(folder)


def _subset(file: Path) -> list[dict[str, Any]]:
    """The images that an annotation file was reduced to here; empty for any other file."""
    try:
        content = json.loads(file.read_bytes())
        return content["images"] if _MARK in content["info"] else []
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return []


def _reduce(content: dict[str, Any], images: int) -> dict[str, Any]:
    """An annotation file's content for only the first images by id that have an instance."""
    with_instance = {a["image_id"] for a in content["annotations"] if not a["iscrowd"]}
    if len(with_instance) < images:
        raise DataError(
            f"--subset {images}: only {len(with_instance)} images have objects; "
            "--splits val fetches all of them"
        )
    chosen = set(sorted(with_instance)[:images])
    return content | {
        "info": content.get("info", {}) | {_MARK: images},
        "images": [image for image in content["images"] if image["id"] in chosen],
        "annotations": [a for a in content["annotations"] if a["image_id"] in chosen],
    }


def _fetch_images(base: str, folder: Path, records: list[Any], progress: bool) -> None:
    def fetch(record: dict[str, Any]) -> None:
        url, target = f"{base}/{record['file_name']}", folder / record["file_name"]
        if target.exists():
            return
        download(url, target)
        size = record["height"], record["width"]
        try:
            same = probe_image(target) == size
        except DataError:
            same = False
        if not same:
            target.unlink()
            raise DataError(
                f"{url}: is not the image of {size[1]}×{size[0]} pixels that the annotations are "
                "for; fetch from another --mirror"
            )

    pool = ThreadPoolExecutor(_CONNECTIONS)
    try:
        fetched = pool.map(fetch, records)
        for _ in tqdm(fetched, desc=folder.name, total=len(records), disable=not progress):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
