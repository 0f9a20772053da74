"""Augmentation of an image with its boxes and bitmaps, on torchvision's transforms v2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from b2inst.ops.images import resized_size

#: ImageNet's, RGB.
_MEAN_COLOUR = (124, 117, 104)


class ResizeShorterSide(v2.Transform):
    """Resize an image by PIL's antialiased bilinear filter; bitmaps by the nearest pixel."""

    def __init__(self, shorter: int | Sequence[int], longer_max: int) -> None:
        super().__init__()
        self.shorter = (shorter,) if isinstance(shorter, int) else tuple(shorter)
        self.longer_max = longer_max

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = v2.query_size(flat_inputs)
        choice = int(torch.randint(len(self.shorter), ())) if len(self.shorter) > 1 else 0
        size = resized_size(height, width, self.shorter[choice], self.longer_max)
        return {"size": size, "same": size == (height, width)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        # Scenes have the wanted size; in images so small, calls take most of the time.
        return inpt if params["same"] else _resized(inpt, params["size"])


class ResizeTo(v2.Transform):
    """Resize a PIL image to (height, width) without antialiasing, as published for YOLACT."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if isinstance(inpt, Image.Image):
            return Image.fromarray(cv2.resize(np.asarray(inpt), self.size[::-1]))
        return _resized(inpt, self.size)


class Transpose(v2.Transform):
    """Swap rows and columns; with both flips at random it gives all eight orientations."""

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if isinstance(inpt, Image.Image):
            return inpt.transpose(Image.Transpose.TRANSPOSE)
        values = inpt.as_subclass(Tensor)
        if isinstance(inpt, tv_tensors.BoundingBoxes):
            size = inpt.canvas_size[::-1]
            return tv_tensors.wrap(values[:, [1, 0, 3, 2]], like=inpt, canvas_size=size)
        return tv_tensors.wrap(values.mT, like=inpt)


class RandomColours(v2.RandomPhotometricDistort):
    """SSD's photometric distortion by torchvision, without its permutation of channels."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {**super().make_params(flat_inputs), "channel_permutation": None}


class RandomCentreCrop(v2.RandomIoUCrop):
    """SSD's random crop as YOLACT runs it: five times in six, with an object's centre in it.

    SSD also wants some IoU of crop and box; in YOLACT's code that condition has no effect. Boxes
    whose centre is outside become empty, crowds' as well.
    """

    def __init__(self) -> None:
        super().__init__(sampler_options=[1.0, 0.0, 0.0, 0.0, 0.0, 0.0], trials=50)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if params and isinstance(inpt, tv_tensors.BoundingBoxes):
            # Each set of boxes by its own centres: torchvision knows one set only.
            boxes = inpt.as_subclass(Tensor)
            centres = (boxes[:, :2] + boxes[:, 2:]) / 2
            start = torch.tensor([params["left"], params["top"]])
            end = start + torch.tensor([params["width"], params["height"]])
            inside = ((start < centres) & (centres < end)).all(dim=1)
            params = {**params, "is_within_crop_area": inside}
        return super().transform(inpt, params)


def _resized(inpt: Any, size: tuple[int, int]) -> Any:
    """Resize by torchvision; bitmaps, which it would make float32, exactly by the nearest pixel."""
    if not isinstance(inpt, tv_tensors.Mask):
        return F.resize(inpt, list(size))
    bitmaps = inpt.as_subclass(Tensor).numpy()
    for axis, new in ((-2, size[0]), (-1, size[1])):
        places = torch.arange(bitmaps.shape[axis], dtype=torch.float32)[None, None]
        nearest = interpolate(places, new, mode="nearest-exact")[0, 0].long()
        bitmaps = bitmaps.take(nearest.numpy(), axis)
    return tv_tensors.Mask(torch.from_numpy(bitmaps))


def train_transforms(
    *,
    shorter: int | Sequence[int] | None = None,
    longer_max: int | None = None,
    fixed_size: tuple[int, int] | None = None,
    crop: int | None = None,
    flip: float = 0.5,
    vertical_flip: float = 0.0,
    transpose: float = 0.0,
    invert: float = 0.0,
    brightness: float = 0.0,
    contrast: float = 0.0,
    blur: float = 0.0,
    ssd: bool = False,
) -> v2.Transform:
    """Resize, crop, flip and vary colours.

    Args:
        shorter: Pixels of the shorter side; of several values one is drawn for each image. Without
            it and ``longer_max``, images keep their size.
        longer_max: Largest number of pixels of the longer side.
        fixed_size: (height, width) of a model that takes no other, instead of these two.
        crop: Side in pixels of a random square; smaller images are padded by the mean colour.
            Boxes are clipped to it; those outside become empty.
        flip: Probability of a horizontal flip.
        vertical_flip: Probability of a vertical flip.
        transpose: Probability of swapping rows and columns.
        invert: Probability of inverting the colours.
        brightness: Largest relative change, as in ``v2.ColorJitter``.
        contrast: Largest relative change, as in ``v2.ColorJitter``.
        blur: Largest standard deviation in pixels; half of the images are blurred by a Gaussian.
        ssd: Before all that, vary colours, put the image on a canvas of the mean colour with up to
            four times its sides (half of the time), and crop it (Liu et al. 2016, §2.2; YOLACT).
    """
    fill: Any = {tv_tensors.Mask: 0, "others": _MEAN_COLOUR}
    parts: list[v2.Transform] = []
    if ssd:
        parts += [RandomColours(), v2.RandomZoomOut(fill), RandomCentreCrop()]
    if fixed_size is not None:
        parts.append(ResizeTo(fixed_size))
    elif shorter is not None and longer_max is not None:
        parts.append(ResizeShorterSide(shorter, longer_max))
    if crop is not None:
        parts.append(v2.RandomCrop(crop, pad_if_needed=True, fill=fill))
    parts += [v2.RandomHorizontalFlip(flip)] if flip else []
    parts += [v2.RandomVerticalFlip(vertical_flip)] if vertical_flip else []
    parts += [v2.RandomApply([Transpose()], transpose)] if transpose else []
    parts += [v2.RandomInvert(invert)] if invert else []
    if brightness or contrast:
        parts.append(v2.ColorJitter(brightness=brightness, contrast=contrast))
    if blur:
        # Beyond three standard deviations a Gaussian is next to nothing.
        size = 2 * math.ceil(3 * blur) + 1
        parts.append(v2.RandomApply([v2.GaussianBlur(size, sigma=(0.1, blur))]))
    return v2.Compose(parts or [v2.Identity()])
