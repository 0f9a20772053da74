"""Resumable, verified download of a file."""

from __future__ import annotations

import hashlib
import re
import ssl
import time
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from b2inst.data.wording import DataError

_CHUNK = 1 << 18  # bytes
_TIMEOUT = 30.0  # seconds without a byte
_ATTEMPTS = 6  # without progress, with 1, 2, 4, 8 and 16 seconds between them
_BROKEN = (URLError, ConnectionError, TimeoutError, ssl.SSLError, HTTPException)


def address(mirror: str) -> str:
    """Check the address that paths are appended to."""
    if not re.match(r"https?://\w", mirror):
        raise DataError(f"--mirror {mirror}: an address begins with http:// or https://")
    return mirror.rstrip("/")


def download(url: str, target: Path, *, size: int | None = None, md5: str | None = None) -> Path:
    """Download a file, or check the one that exists.

    Incomplete data is kept in ``<target>.partial``, and the next call requests the rest. A download
    of another ``size`` (bytes) or ``md5`` is repeated once.

    Raises:
        DataError: The file cannot be downloaded, or it is another one.
        OSError: It cannot be written.
    """
    if target.exists():
        if fault := _fault(target, size, md5):
            raise DataError(f"{target}: {fault}; delete it to download it again")
        return target
    partial = target.with_name(f"{target.name}.partial")
    for _ in range(2):
        _fetch(url, partial, size)
        if not (fault := _fault(partial, size, md5)):
            return partial.replace(target)
        partial.unlink()
    raise DataError(f"{url}: {fault}, twice; try again later or from another --mirror")


def _fetch(url: str, partial: Path, size: int | None) -> None:
    """Fill ``partial``, over as many connections as it takes."""
    failures = 0
    while (start := _bytes_of(partial)) == 0 or start != size:
        try:
            return _receive(url, partial, start, size)
        except _BROKEN as error:
            status = error.code if isinstance(error, HTTPError) else None
            if status == 416:  # no bytes follow
                return None
            if status and status < 500 and status != 429:
                raise DataError(
                    f"{url}: {error}; check the address, or download from another --mirror"
                ) from error
            have = _bytes_of(partial)
            failures = 1 if have > start else failures + 1
            if failures == _ATTEMPTS:
                raise DataError(
                    f"{url}: {error or type(error).__name__}; {have:,} bytes are in {partial}: "
                    "rerun to resume, or download from another --mirror"
                ) from error
            time.sleep(2.0 ** (failures - 1))
    return None


def _receive(url: str, partial: Path, start: int, size: int | None) -> None:
    """One connection, from byte ``start`` to the end of the file."""
    headers = {"User-Agent": "b2inst", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with urlopen(Request(url, headers=headers), timeout=_TIMEOUT) as response:
        if response.status != 206:  # the server ignores ranges
            start = 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        if size is not None and total not in (None, size):
            raise DataError(
                f"{url}: the server has {total:,} bytes there, not the {size:,} of the original; "
                "something else answers in its place, or it is no mirror of it"
            )
        bar = {"total": total, "initial": start, "desc": partial.stem, "disable": None}
        with (
            partial.open("ab" if start else "wb") as file,
            tqdm.wrapattr(file, "write", **bar) as target,
        ):
            while chunk := response.read1(_CHUNK):  # available bytes: a break loses nothing
                target.write(chunk)
        if total is not None and (have := _bytes_of(partial)) < total:
            raise ConnectionError(f"the connection broke off at {have:,} of {total:,} bytes")


def _fault(path: Path, size: int | None, md5: str | None) -> str | None:
    """What is wrong with a file."""
    if size is not None and (have := _bytes_of(path)) != size:
        return f"it has {have:,} bytes, not the {size:,} of the original"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest() if md5 else None
    return None if found == md5 else f"it is damaged (MD5 {found}, not {md5})"


def _bytes_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
