"""One file from the web: resumed where it broke off, checked, whole or not there."""

from __future__ import annotations

import hashlib
import re
import ssl
import time
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from b2inst.data.errors import DataError

_CHUNK = 1 << 18  # bytes
_TIMEOUT = 30.0  # seconds without a byte
_ATTEMPTS = 6  # after the last progress, with 1, 2, 4, 8 and 16 seconds between them
_TRY_LATER = (408, 425, 429)  # and all of 500 and above

_Answer = HTTPResponse | HTTPError


def download(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    md5: str | None = None,
    progress: bool = False,
) -> Path:
    """Fetch a file, or check the one that is there.

    What has come lies in ``<target>.partial`` until it is whole and checked, and
    ``<target>.version`` says of which version it is (ETag or date): an interrupted call goes on
    from there if the server still has that version, and from the start otherwise. A file that
    came damaged is fetched anew, once.

    Args:
        size: bytes that it must have; else as many as the server says.
        md5: its checksum, in hexadecimal; else the one that Amazon S3 says, if it is S3.

    Returns:
        ``target``.

    Raises:
        DataError: it cannot be had, or it is another file; names the address, what has come and
            what to do.
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
        fault = _fault(partial, size, md5 or promised, progress) or ""
        if not fault:
            partial.replace(target)
            _version_file(partial).unlink(missing_ok=True)
            return target
        partial.unlink()
    raise DataError(f"{url}: {fault}, twice; try again later or from another --mirror")


def _fetch(url: str, partial: Path, size: int | None, progress: bool) -> str | None:
    """Fill ``partial``, over as many connections as it takes; returns the MD5 that S3 says."""
    failures, most = 0, _bytes_of(partial)
    with tqdm(
        desc=partial.stem, unit="B", unit_scale=True, unit_divisor=1024, disable=not progress
    ) as bar:
        while True:
            try:
                return _receive(url, partial, size, bar)
            except _BrokenError as error:
                have = _bytes_of(partial)
                failures = 1 if have > most else failures + 1
                most = max(most, have)
                if failures == _ATTEMPTS:
                    raise DataError(
                        f"{url}: {error}; {have:,} bytes are in {partial}: run again to go on "
                        "from there, or fetch from another --mirror"
                    ) from error
                time.sleep(2.0 ** (failures - 1))


def _receive(url: str, partial: Path, size: int | None, bar: tqdm) -> str | None:
    """One connection, from where ``partial`` ends to the end of the file."""
    start, version = _bytes_of(partial), _version_of(partial)
    if not version:
        start = 0  # of which version it is, nobody knows
    elif start == size:
        return None
    headers = {"User-Agent": "b2inst", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": version}
    with _open(Request(url, headers=headers)) as response:
        part = response.headers.get("Content-Range", "")
        if response.status == 416 and part == f"bytes */{start}":
            return None  # there is no more
        if response.status == 416 or (
            response.status == 206
            and not (part.startswith(f"bytes {start}-") and _version(response) == version)
        ):
            partial.unlink()
            raise _BrokenError("the server has no such part any more, or sent another")
        if response.status != 206:
            start = 0
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else None
        if size is not None and total is not None and total != size:
            raise DataError(
                f"{url}: the server has {total:,} bytes there, not the {size:,} of the original; "
                "something else answers in its place, or it is no mirror of it"
            )
        bar.reset(total or size)
        bar.initial = bar.n = have = start
        with partial.open("ab" if start else "wb") as file:
            _version_file(partial).write_text(_version(response))  # what was there is gone by now
            while chunk := _chunk(response):
                file.write(chunk)
                have += len(chunk)
                bar.update(len(chunk))
                if size is not None and have > size:
                    raise DataError(f"{url}: the server sends more than the {size:,} bytes of it")
        if total is not None and have < total:
            raise _BrokenError(f"the connection broke off at {have:,} of {total:,} bytes")
        return _s3_md5(response)


class _BrokenError(Exception):
    """A connection failed in a way that may not last."""


def _open(request: Request) -> _Answer:
    """The answer: the file, a part of it, or (status 416) that there is no such part."""
    url = request.full_url
    try:
        return urlopen(request, timeout=_TIMEOUT)
    except HTTPError as error:
        if error.code == 416:
            return error
        error.close()
        what = f"HTTP {error.code} {error.reason}"
        if error.code >= 500 or error.code in _TRY_LATER:
            raise _BrokenError(what) from error
        raise DataError(
            f"{url}: {what}; check the address, or fetch from another --mirror"
        ) from error
    except URLError as error:
        if isinstance(error.reason, str | ssl.SSLCertVerificationError):
            raise DataError(f"{url}: {error.reason}; fetch from another --mirror") from error
        raise _BrokenError(str(error.reason)) from error
    except (OSError, HTTPException) as error:
        raise _BrokenError(str(error) or type(error).__name__) from error


def _chunk(response: _Answer) -> bytes:
    try:
        return response.read1(_CHUNK)  # what there is: nothing is lost when it breaks off
    except (OSError, HTTPException) as error:
        raise _BrokenError(str(error) or type(error).__name__) from error


def _fault(path: Path, size: int | None, md5: str | None, progress: bool) -> str | None:
    """What a file has that it should not have."""
    have = _bytes_of(path)
    if size is not None and have != size:
        return f"it has {have:,} bytes, not the {size:,} of the original"
    if md5 is None:
        return None
    digest = hashlib.md5(usedforsecurity=False)
    with (
        path.open("rb") as file,
        tqdm(
            desc=f"MD5 of {path.name.removesuffix('.partial')}", total=have,
            unit="B", unit_scale=True, unit_divisor=1024, disable=not progress,
        ) as bar,
    ):  # fmt: skip
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    if digest.hexdigest() != md5:
        return f"it came damaged (MD5 {digest.hexdigest()}, not {md5})"
    return None


def _version(response: _Answer) -> str:
    """What tells versions of a file apart, a strong ETag or the date; empty if there is none."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _s3_md5(response: _Answer) -> str | None:
    """S3's ETag is the MD5 of what was not uploaded in parts or encrypted with a key of its own."""
    ours = response.headers.get("Server") == "AmazonS3"
    plain = response.headers.get("x-amz-server-side-encryption", "AES256") == "AES256"
    etag = response.headers.get("ETag", "").strip('"')
    return etag if ours and plain and re.fullmatch("[0-9a-f]{32}", etag) else None


def _version_file(partial: Path) -> Path:
    return partial.with_suffix(".version")


def _version_of(partial: Path) -> str:
    file = _version_file(partial)
    return file.read_text() if file.exists() else ""


def _bytes_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
