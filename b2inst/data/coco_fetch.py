"""Fetching COCO 2017, whole splits of it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from b2inst.data.archives import extract
from b2inst.data.coco_folder import (
    fetching_into,
    has_all_images,
    has_annotations,
    refuse_other_data,
)
from b2inst.data.coco_site import IMAGE_NAME, SITE, SPLITS, Archive, Split
from b2inst.data.download import download
from b2inst.data.errors import DataError


def fetch_coco(
    root: Path | str,
    *,
    splits: Sequence[str] = ("train", "val"),
    mirror: str = SITE,
    keep_zips: bool = False,
    progress: bool = True,
    site: Mapping[str, Split] = SPLITS,
) -> list[Path]:
    """Fetch, check and unpack the splits that are not there yet.

    The images of a split are unpacked aside and renamed, then its annotations: it is there as a
    whole or not at all. A subset (``fetch_coco_subset``) is replaced by the whole. Interrupted,
    the next call goes on where this one was.

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
    if unknown := [name for name in splits if name not in site]:
        raise DataError(f"no split {unknown[0]!r} of COCO; there are {', '.join(site)}")
    chosen = sorted((site[name] for name in set(splits)), key=lambda split: split.count)
    with told_of_the_disk(root), fetching_into(root):
        for left in root.glob(".*.partial"):  # by a call that was killed
            shutil.rmtree(left)
        missing = {split: archives for split in chosen if (archives := _missing(root, split))}
        for split in missing:
            refuse_other_data(root, split)
        check_space(root, _needed(root, missing, keep_zips))
        for split, archives in missing.items():
            for archive in archives:
                fetch_archive(root, archive, base, progress)
            if split.images in archives:
                _unpack_images(root, split, progress)
                if not keep_zips:
                    (root / split.images.name).unlink()
            if split.annotations in archives:
                _unpack_annotations(root, split)
        if not keep_zips:
            for archive in chain(*missing.values()):
                (root / archive.name).unlink(missing_ok=True)
    return [root / split.member for split in chosen]


def address(mirror: str) -> str:
    """The address that archives' paths are appended to.

    Raises:
        DataError: it is none.
    """
    if not re.match(r"https?://\w", mirror):
        raise DataError(f"--mirror {mirror}: an address begins with http:// or https://")
    return mirror.rstrip("/")


def fetch_archive(root: Path, archive: Archive, base: str, progress: bool) -> Path:
    """A checked archive in ``root``; fetched if it is not there."""
    return download(
        f"{base}/{archive.path}",
        root / archive.name,
        size=archive.size,
        md5=archive.md5,
        progress=progress,
    )


def check_space(root: Path, needed: int) -> None:
    """Stop before the first byte where the disk would fill up.

    Raises:
        DataError: there is less room than needed.
    """
    if (free := shutil.disk_usage(root).free) < needed:
        raise DataError(
            f"{root}: {needed / 1e9:.1f} GB of disk space needed, {free / 1e9:.1f} GB free; make "
            "room, choose another folder, or fetch less (--splits val, --subset 200)"
        )


def still_to_come(root: Path, archives: Iterable[Archive]) -> int:
    """Bytes of archives that are not on the disk yet."""
    total = 0
    for archive in set(archives):
        there = [root / archive.name, root / f"{archive.name}.partial"]
        total += max(0, (archive.size or 0) - sum(p.stat().st_size for p in there if p.exists()))
    return total


@contextmanager
def told_of_the_disk(root: Path) -> Iterator[None]:
    """Errors of the file system as one line with what to do."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{error.filename or root}: cannot be written ({error.strerror or error}); "
            "make room or choose another folder, and run again: it goes on where it was"
        ) from error


def _missing(root: Path, split: Split) -> list[Archive]:
    """The archives that a split still needs, the small one first."""
    annotations = [] if has_annotations(root, split) else [split.annotations]
    return annotations + ([] if has_all_images(root, split) else [split.images])


def _needed(root: Path, missing: Mapping[Split, list[Archive]], keep_zips: bool) -> int:
    """The most bytes that the splits take at any time, archives beside what is unpacked."""
    shared = {
        split.annotations for split, archives in missing.items() if split.annotations in archives
    }
    most = held = still_to_come(root, shared) + sum(archive.unpacked for archive in shared)
    for split, archives in missing.items():
        if split.images in archives:
            zipped = still_to_come(root, [split.images])
            most = max(most, held + zipped + split.images.unpacked)
            held += split.images.unpacked + zipped * keep_zips
    return most


def _unpack_images(root: Path, split: Split, progress: bool) -> None:
    archive, folder = root / split.images.name, root / split.name
    with _aside(root, split.name) as aside, _aside(root, f"{split.name}.old") as old:
        names = extract(
            archive,
            aside,
            wanted=f"{split.name}/{IMAGE_NAME}",
            known=split.images.members,
            limit=split.images.unpacked,
            progress=progress,
        )
        if len(names) != split.count:
            raise DataError(f"{archive}: holds {len(names):,} images, not {split.count:,}")
        if folder.exists():
            if more := {path.name for path in folder.glob("*.jpg")} - set(names):
                raise DataError(
                    f"{folder / min(more)}: is not of this split; move it away or choose another "
                    "folder"
                )
            folder.rename(old / "images")
        aside.rename(folder)


def _unpack_annotations(root: Path, split: Split) -> None:
    archive, file = root / split.annotations.name, root / split.member
    file.parent.mkdir(exist_ok=True)
    with _aside(root, "annotations") as aside:
        names = extract(
            archive,
            aside,
            wanted=re.escape(split.member),
            known=split.annotations.members,
            limit=split.annotations.unpacked,
        )
        if not names:
            raise DataError(f"{archive}: has no {split.member!r}")
        (aside / names[0]).replace(file)


@contextmanager
def _aside(root: Path, name: str) -> Iterator[Path]:
    """An empty folder to unpack in, gone afterwards."""
    folder = root / f".{name}.partial"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
