"""Images as ``predict`` takes them."""

from __future__ import annotations

import os

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from b2inst.ops.images import open_image, upright_rgb

#: An H×W×3 uint8 RGB array, a 3×H×W uint8 RGB tensor, a PIL image, or the path of a file.
ImageLike = np.ndarray | Tensor | Image.Image | str | os.PathLike[str]


def rgb_array(image: ImageLike) -> np.ndarray:
    """An image as H×W×3 uint8 RGB, of files and PIL images as ``upright_rgb`` converts them.

    Raises:
        ValueError: an array or tensor of another shape or type.
        FileNotFoundError, PIL.UnidentifiedImageError: a path that is no readable image.
    """
    if isinstance(image, Tensor):
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
            raise ValueError(
                f"image tensor has shape {tuple(image.shape)} and dtype {image.dtype}; give 3×H×W "
                "uint8 in RGB order, as torchvision.io.decode_image does"
            )
        return np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise ValueError(
                f"image array has shape {image.shape} and dtype {image.dtype}; "
                "give H×W×3 uint8 in RGB order"
            )
        return image
    if isinstance(image, Image.Image):
        return np.asarray(upright_rgb(image))
    with open_image(image) as opened:
        return np.asarray(upright_rgb(opened))
