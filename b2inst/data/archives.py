"""Zip archives from elsewhere: nothing is written that was not expected."""

from __future__ import annotations

import re
import shutil
import stat
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from tqdm import tqdm

from b2inst.data.errors import DataError

_DAMAGE = (BadZipFile, EOFError, NotImplementedError, UnicodeDecodeError, zlib.error)


def extract(
    archive: Path, folder: Path, *, wanted: str, known: str, limit: int, progress: bool = False
) -> list[str]:
    """Write the wanted members of a zip as ``folder/<name>``, without their own folders.

    Args:
        folder: is there, and empty.
        wanted: regular expression of the members to write, from start to end of their paths.
        known: of those that may be there besides.
        limit: bytes that the wanted ones may have together.

    Returns:
        The names written.

    Raises:
        DataError: the archive has other members, twice the same, links, encrypted or damaged
            ones, or too large ones; names the member. Damage is found while writing, all else
            before.
    """
    with _opened(archive) as zip_file:
        members = _wanted(archive, zip_file, wanted, known, limit)
        bar = tqdm(members, desc=f"unpacking {archive.name}", unit="file", disable=not progress)
        for member in bar:
            with (
                _member(archive, zip_file, member) as source,
                (folder / _name(member)).open("wb") as target,
            ):
                shutil.copyfileobj(source, target, 1 << 20)
    return [_name(member) for member in members]


def read_member(archive: Path, *, path: str, known: str, limit: int) -> bytes:
    """The content of one member of a zip.

    Args:
        known, limit: as in ``extract``.

    Raises:
        DataError: as ``extract``, or there is no such member.
    """
    for _, content in read_members(archive, wanted=re.escape(path), known=known, limit=limit):
        return content
    raise DataError(f"{archive}: has no {path!r}; fetch it anew")


def read_members(
    archive: Path, *, wanted: str, known: str, limit: int, progress: bool = False
) -> Generator[tuple[ZipInfo, bytes], None, None]:
    """Iterate over the wanted members of a zip and their content, sorted by path.

    Args:
        wanted, known, limit: as in ``extract``.

    Raises:
        DataError: as ``extract``.
    """
    with _opened(archive) as zip_file:
        members = _wanted(archive, zip_file, wanted, known, limit)
        members.sort(key=lambda member: member.orig_filename)
        with tqdm(
            members, desc=f"reading {archive.name}", unit="file", disable=not progress
        ) as bar:
            for member in bar:
                with _member(archive, zip_file, member) as source:
                    content = source.read()
                yield member, content


def _wanted(archive: Path, zip_file: ZipFile, wanted: str, known: str, limit: int) -> list[ZipInfo]:
    seen, members, end = set[str](), [], archive.stat().st_size
    for member in zip_file.infolist():
        name = member.orig_filename
        if name in seen:
            fault = "occurs twice"
        elif not re.fullmatch(f"{wanted}|{known}", name):
            fault = "does not belong there"
        elif stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            fault = "is a link or device, not a file"
        elif member.flag_bits & 1:
            fault = "is encrypted"
        elif member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            fault = "is compressed by a method other than deflate"
        elif not 0 <= member.header_offset < end:
            fault = "lies outside the file"
        else:
            seen.add(name)
            if re.fullmatch(wanted, name):
                members.append(member)
            continue
        raise DataError(f"{archive}: its member {name!r} {fault}; nothing was unpacked")
    if (total := sum(member.file_size for member in members)) > limit:
        largest = max(members, key=lambda member: member.file_size)
        raise DataError(
            f"{archive}: would unpack to {total:,} bytes, not at most {limit:,} (its largest "
            f"member is {largest.filename!r} of {largest.file_size:,}); nothing was unpacked"
        )
    return members


def _name(member: ZipInfo) -> str:
    return member.filename.rpartition("/")[2]


@contextmanager
def _opened(archive: Path) -> Iterator[ZipFile]:
    try:
        zip_file = ZipFile(archive)
    except _DAMAGE as error:
        raise DataError(f"{archive}: not a zip archive ({error}); fetch it anew") from error
    except OSError as error:
        raise DataError(f"{archive}: cannot be read ({error.strerror})") from error
    with zip_file:
        yield zip_file


@contextmanager
def _member(archive: Path, zip_file: ZipFile, member: ZipInfo) -> Iterator[IO[bytes]]:
    """A member, read no further than the size it declares and against its checksum."""
    try:
        with zip_file.open(member) as source:
            yield source
    except _DAMAGE as error:
        raise DataError(
            f"{archive}: its member {member.filename!r} is damaged ({error}); fetch it anew"
        ) from error
