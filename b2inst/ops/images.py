"""Conversion of any image that Pillow reads to upright 8-bit RGB, and its size in the network."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

# Pillow warns at half the size that it refuses; these images are fine.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@contextmanager
def open_image(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Open an image; FileNotFoundError or PIL.UnidentifiedImageError, also of decoding, name it."""
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise UnidentifiedImageError(
            f"{path}: more than {limit:,} pixels, the most that Pillow opens; reduce or tile it"
        ) from None
    except Exception as error:  # decoders raise errors of any type for broken files
        why = str(error).partition("\n")[0] or type(error).__name__
        raise UnidentifiedImageError(f"{path}: unreadable image ({why}); replace it") from error


def upright_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to 8-bit RGB and transpose it by its EXIF orientation.

    Colours are converted by Pillow; transparency and metadata are dropped. Grey images of more than
    8 bits are scaled as docs/data.md says; infinity becomes 255, negative infinity and NaN 0.
    """
    turn = orientation(image)
    if image.mode[0] in "IF":  # Pillow would clip, not scale
        image = Image.fromarray(_eight_bits(image))
    elif "transparency" in image.info:
        image = image.copy()
        del image.info["transparency"]  # Pillow would look for a colour to carry it on, or warn
    rgb = image.convert("RGB")
    rgb.info.clear()
    rgb.getexif()[ExifTags.Base.Orientation] = turn
    ImageOps.exif_transpose(rgb, in_place=True)
    return rgb


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of the loaded pixels, 1 to 8; 1 if it is invalid."""
    load(image)  # TIFF: Pillow applies and removes it; PNG: it may follow the pixels
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
        return int(value) if value in range(1, 9) else 1
    except Exception:  # damaged metadata cause errors of any type
        return 1


def load(image: Image.Image) -> None:
    """Decode an image that Pillow has opened, if it is not decoded yet."""
    if isinstance(image, TiffImageFile):
        # With a file name, Pillow 12 and 13 map uncompressed files into memory, and then confuse
        # their sides for orientations 5 to 8.
        name, image.filename = image.filename, ""
        image.load()
        image.filename = name
    else:
        image.load()


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """Convert an image in a mode of integers or floats to H×W; see ``upright_rgb``."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})  # of TIFF; Pillow ignores these in such modes
    if image.mode.startswith("I;16"):
        bits = tags.get(ExifTags.Base.BitsPerSample, (16,))
        grey = (values >> (bits[0] - 8)).astype(np.uint8)
    elif image.mode == "I" and image.format == "PPM":  # always scaled to 16 bits by Pillow
        grey = (values >> 8).astype(np.uint8)
    else:
        if image.mode == "I" and tags and tags.get(ExifTags.Base.SampleFormat, (1,))[0] == 1:
            values = values.view(np.uint32)
        grey = _stretched(values)
    white_is_zero = tags.get(ExifTags.Base.PhotometricInterpretation) == 0
    return ~grey if white_is_zero else grey


def _stretched(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    floats = values.astype(np.float64)
    finite = floats[np.isfinite(floats)]
    low, high = (finite.min(), finite.max()) if finite.size else (0, 0)
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0, 1
    elif low == high:
        return np.full(values.shape, 128, np.uint8)
    scaled = (floats - low) * (255 / (high - low))
    return np.rint(np.nan_to_num(scaled, nan=0).clip(0, 255)).astype(np.uint8)


def resized_size(height: int, width: int, shorter: int, longer_max: int) -> tuple[int, int]:
    """Resize the shorter side to ``shorter``, or less if the longer would exceed its limit.

    Operations are in the order of the published baselines, since rounding may decide over a pixel.
    """
    scale = shorter / min(height, width)
    new_height, new_width = (
        (float(shorter), scale * width) if height < width else (scale * height, float(shorter))
    )
    again = min(longer_max / max(new_height, new_width), 1.0)
    return max(int(again * new_height + 0.5), 1), max(int(again * new_width + 0.5), 1)
