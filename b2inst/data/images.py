"""Reading image files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from b2inst.data.errors import DataError
from b2inst.data.records import ImageRecord

_EXIF_ORIENTATION = 0x0112
_DRAFT = 64  # side in pixels that a JPEG may be decoded to when only checked


def read_image(path: Path | str) -> Image.Image:
    """Open an image as 8-bit RGB, turned upright by its EXIF orientation.

    Grey, palette, CMYK and 16-bit images are converted; transparency is dropped.

    Raises:
        DataError: the file is missing, not an image, or cut short.
    """
    with _opened(path) as file:
        image = ImageOps.exif_transpose(file)
        if image.mode.startswith("I;16"):  # PIL would clip, not scale
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return image.convert("RGB")


def probe_image(path: Path | str) -> tuple[int, int]:
    """(height, width) of the upright image, after reading the file to its end.

    As thorough as ``read_image`` about cut-off files, and much faster for large JPEGs.

    Raises:
        DataError: as ``read_image``.
    """
    with _opened(path) as file:
        width, height = file.size
        turned = file.getexif().get(_EXIF_ORIENTATION, 1) >= 5
        file.draft("RGB", (_DRAFT, _DRAFT))
        file.load()
        return (width, height) if turned else (height, width)


def size_problem(record: ImageRecord, height: int, width: int) -> str | None:
    """A line on an image whose size is not the one its annotations are for, or None."""
    if (height, width) == (record.height, record.width):
        return None
    return (
        f"{record.path}: the upright image is {width}×{height} but its annotations say "
        f"{record.width}×{record.height}; correct one of them or leave it out with --skip-bad"
    )


def as_array(image: Image.Image) -> NDArray[np.uint8]:
    """H×W×3 uint8, writable and contiguous."""
    return np.array(image, dtype=np.uint8)


@contextmanager
def _opened(path: Path | str) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as file:
            yield file
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such image; restore it or leave it out with --skip-bad"
        ) from None
    except Exception as error:  # decoders raise whatever a broken file makes them stumble over
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path}: unreadable image ({why}); replace the file or leave it out with --skip-bad"
        ) from error
