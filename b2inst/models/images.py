"""Images as ``predict`` takes them."""

from __future__ import annotations

import os

import numpy as np
from PIL import Image
from torch import Tensor

from b2inst.ops.images import open_image, upright_rgb

#: An H×W×3 uint8 RGB array, a 3×H×W uint8 RGB tensor, a PIL image, or the path of a file.
ImageLike = np.ndarray | Tensor | Image.Image | str | os.PathLike[str]


def rgb_array(image: ImageLike) -> np.ndarray:
    """An image as H×W×3 uint8 RGB, of files and PIL images as ``upright_rgb`` converts them.

    Raises:
        ValueError: An array or tensor of another shape or type.
        FileNotFoundError, PIL.UnidentifiedImageError: A path that is no readable image.
    """
    if isinstance(image, Image.Image):
        return np.asarray(upright_rgb(image))
    if not isinstance(image, np.ndarray | Tensor):
        with open_image(image) as opened:
            return np.asarray(upright_rgb(opened))
    array, form = (image, "H×W×3")
    if isinstance(image, Tensor):
        array, form = image.cpu().numpy(), "3×H×W"
        if array.ndim == 3:
            array = np.ascontiguousarray(array.transpose(1, 2, 0))
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ValueError(
            f"image of shape {tuple(image.shape)} and dtype {image.dtype}; give {form} uint8 in "
            "RGB order"
        )
    return array
