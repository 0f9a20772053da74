"""Reading image files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from b2inst.data.errors import DataError
from b2inst.data.records import ImageRecord
from b2inst.ops.images import load, open_image, orientation, upright_rgb

_DRAFT = 64  # side in pixels that a JPEG may be decoded to when only checked


def read_image(path: Path | str) -> Image.Image:
    """Read an image of any format that Pillow opens as upright 8-bit RGB; see ``upright_rgb``.

    Raises:
        DataError: the file is missing, not an image, cut short, or larger than Pillow's limit.
    """
    with _opened(path) as image:
        return upright_rgb(image)


def probe_image(path: Path | str) -> tuple[int, int]:
    """(height, width) of the upright image; DataError as ``read_image``, and faster."""
    with _opened(path) as image:
        width, height = image.size
        drafted = image.draft("RGB", (_DRAFT, _DRAFT))
        load(image)
        if drafted is None:  # the size that other formats state may change when they are loaded
            width, height = image.size
        return (width, height) if orientation(image) >= 5 else (height, width)


def frame_count(path: Path | str) -> int:
    """Pages or frames of a readable image file, of which the first is used."""
    with _opened(path) as image:
        return getattr(image, "n_frames", 1)


def as_array(image: Image.Image) -> NDArray[np.uint8]:
    """H×W×3 uint8, writable and contiguous."""
    return np.array(image, dtype=np.uint8)


def size_problem(record: ImageRecord, height: int, width: int) -> str | None:
    """A line on an image whose size is not the one its annotations are for, or None."""
    if (height, width) == (record.height, record.width):
        return None
    return (
        f"{record.path}: the upright image is {width}×{height} but its annotations say "
        f"{record.width}×{record.height}; correct one of them or leave it out with --skip-bad"
    )


@contextmanager
def _opened(path: Path | str) -> Iterator[Image.Image]:
    try:
        with open_image(path) as image:
            yield image
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such image; restore it or leave it out with --skip-bad"
        ) from None
    except UnidentifiedImageError as error:
        raise DataError(f"{error} or leave it out with --skip-bad") from error
