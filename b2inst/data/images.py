"""Reading image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from b2inst.data.errors import DataError


def read_image(path: Path | str) -> Image.Image:
    """Open an image as 8-bit RGB, turned upright by its EXIF orientation.

    Grey, palette, CMYK and 16-bit images are converted; transparency is dropped.

    Raises:
        DataError: the file is missing, not an image, or cut short.
    """
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith("I;16"):  # PIL would clip, not scale
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            return image.convert("RGB")
    except FileNotFoundError:
        raise DataError(f"{path}: no such image; restore it or drop it with --skip-bad") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{path}: unreadable image ({why}); replace the file or drop it with --skip-bad"
        ) from error


def as_array(image: Image.Image) -> NDArray[np.uint8]:
    """H×W×3 uint8, writable and contiguous."""
    return np.array(image, dtype=np.uint8)
