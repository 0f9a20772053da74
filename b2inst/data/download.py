"""Download of one file: resumed where it broke off, checked, whole or not there."""

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

from b2inst.data.errors import DataError

_CHUNK = 1 << 18  # bytes
_TIMEOUT = 30.0  # seconds without a byte
_ATTEMPTS = 6  # without progress, with 1, 2, 4, 8 and 16 seconds between them
_TRY_LATER = (408, 416, 425, 429)  # and all of 500 and above
_BROKEN = (URLError, ConnectionError, TimeoutError, ssl.SSLError, HTTPException)


def download(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    md5: str | None = None,
    progress: bool = False,
) -> Path:
    """Download a file, or check the one that is there.

    What has come lies in ``<target>.partial`` until it is whole and checked; the next call asks
    for the rest. A file that came damaged is downloaded anew, once.

    Args:
        size: bytes that it must have; else as many as the server says.
        md5: its checksum, in hexadecimal; else the one that Amazon S3 says, if it is S3.

    Raises:
        DataError: it cannot be had, or it is another file; says what has come and what to do.
        OSError: it cannot be written.
    """
    if target.exists():
        if fault := _fault(target, size, md5, progress):
            raise DataError(f"{target}: {fault}; delete it to have it fetched anew")
        return target
    partial = target.with_name(f"{target.name}.partial")
    fault = ""
    for _ in range(2):
        promised = _fetch(url, partial, size, progress)
        fault = _fault(partial, size, md5 or promised, progress)
        if not fault:
            return partial.replace(target)
        partial.unlink()
    raise DataError(f"{url}: {fault}, twice; try again later or from another --mirror")


def _fetch(url: str, partial: Path, size: int | None, progress: bool) -> str | None:
    """Fill ``partial``, over as many connections as it takes; returns the MD5 that S3 says."""
    failures, most = 0, _bytes_of(partial)
    while True:
        start = _bytes_of(partial)
        if start and start == size:
            return None
        try:
            return _receive(url, partial, start, size, progress)
        except _BROKEN as error:
            if isinstance(error, HTTPError):
                error.close()
                if error.code < 500 and error.code not in _TRY_LATER:
                    raise DataError(
                        f"{url}: {error}; check the address, or fetch from another --mirror"
                    ) from error
                if error.code == 416:
                    if error.headers.get("Content-Range") == f"bytes */{start}":
                        return None  # there is no more
                    partial.unlink(missing_ok=True)
            have = _bytes_of(partial)
            failures = 1 if have > most else failures + 1
            most = max(most, have)
            if failures == _ATTEMPTS:
                raise DataError(
                    f"{url}: {error or type(error).__name__}; {have:,} bytes are in {partial}: "
                    "rerun to resume, or fetch from another --mirror"
                ) from error
            time.sleep(2.0 ** (failures - 1))


def _receive(url: str, partial: Path, start: int, size: int | None, progress: bool) -> str | None:
    """One connection, from byte ``start`` to the end of the file; returns the MD5 that S3 says."""
    headers = {"User-Agent": "b2inst", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with urlopen(Request(url, headers=headers), timeout=_TIMEOUT) as response:
        if response.status != 206:
            start = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            partial.unlink()
            raise ConnectionError("the server sent another part of the file than asked for")
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else None
        if size is not None and total not in (None, size):
            raise DataError(
                f"{url}: the server has {total:,} bytes there, not the {size:,} of the original; "
                "something else answers in its place, or it is no mirror of it"
            )
        bar = {"total": total, "initial": start, "desc": partial.stem, "disable": not progress}
        with (
            partial.open("ab" if start else "wb") as file,
            tqdm.wrapattr(file, "write", **bar) as target,
        ):
            while chunk := response.read1(_CHUNK):  # what there is: a break loses nothing
                target.write(chunk)
        if total is not None and (have := _bytes_of(partial)) < total:
            raise ConnectionError(f"the connection broke off at {have:,} of {total:,} bytes")
        # S3's ETag is the MD5 of what was not uploaded in parts or encrypted with a key of its own.
        etag = re.fullmatch('"([0-9a-f]{32})"', response.headers.get("ETag", ""))
        plain = response.headers.get("x-amz-server-side-encryption", "AES256") == "AES256"
        return etag[1] if etag and plain and response.headers.get("Server") == "AmazonS3" else None


def _fault(path: Path, size: int | None, md5: str | None, progress: bool) -> str:
    """What a file has that it should not have; empty of a sound one."""
    have = _bytes_of(path)
    if size is not None and have != size:
        return f"it has {have:,} bytes, not the {size:,} of the original"
    if md5 is None:
        return ""
    digest = hashlib.md5(usedforsecurity=False)
    bar = {"total": have, "desc": f"MD5 of {path.name}", "disable": not progress}
    with path.open("rb") as file, tqdm.wrapattr(file, "read", **bar) as source:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
    return (
        ""
        if digest.hexdigest() == md5
        else f"it came damaged (MD5 {digest.hexdigest()}, not {md5})"
    )


def _bytes_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
