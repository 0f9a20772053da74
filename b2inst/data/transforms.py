"""Augmentation of an image with its boxes and bitmaps, on torchvision's transforms v2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from b2inst.ops.resize import resized_size

#: ImageNet's, RGB.
_MEAN_COLOUR = (124, 117, 104)


class ResizeShorterSide(v2.Transform):
    """Resize an image to a shorter side, drawn anew for each image if there are several.

    The image (PIL) is resized bilinearly with PIL's antialiasing, bitmaps by the nearest pixel.

    Args:
        shorter: pixels; one value, or several of which one is drawn with equal chances.
        longer_max: pixels the longer side may have at most.
    """

    def __init__(self, shorter: int | Sequence[int], longer_max: int) -> None:
        super().__init__()
        self.shorter = (shorter,) if isinstance(shorter, int) else tuple(shorter)
        self.longer_max = longer_max
        if not self.shorter or min(self.shorter) < 1 or longer_max < 1:
            raise ValueError(f"shorter={shorter}, longer_max={longer_max}: sizes must be positive")

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = v2.query_size(flat_inputs)
        choice = int(torch.randint(len(self.shorter), ())) if len(self.shorter) > 1 else 0
        size = resized_size(height, width, self.shorter[choice], self.longer_max)
        return {"size": list(size), "same": size == (height, width)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if params["same"]:
            return inpt
        if isinstance(inpt, tv_tensors.Mask):
            return _resize_bitmaps(inpt, params["size"])
        return self._call_kernel(F.resize, inpt, params["size"])


class ResizeTo(v2.Transform):
    """Resize an image to one size, whatever its shape, bitmaps by the nearest pixel.

    The image (PIL) is resized by OpenCV's bilinear without antialiasing, as published for YOLACT.

    Args:
        size: (height, width) in pixels.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if isinstance(inpt, Image.Image):
            return Image.fromarray(cv2.resize(np.asarray(inpt), self.size[::-1]))
        if isinstance(inpt, tv_tensors.Mask):
            return _resize_bitmaps(inpt, self.size)
        return self._call_kernel(F.resize, inpt, list(self.size))


class RandomTranspose(v2.Transform):
    """Swap rows and columns with probability p; with both flips it gives all eight orientations."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {"apply": bool(torch.rand(()) < self.p)}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not params["apply"]:
            return inpt
        if isinstance(inpt, Image.Image):
            return inpt.transpose(Image.Transpose.TRANSPOSE)
        if isinstance(inpt, tv_tensors.BoundingBoxes):
            height, width = inpt.canvas_size
            swapped = inpt.as_subclass(Tensor)[:, [1, 0, 3, 2]]
            return tv_tensors.BoundingBoxes(
                swapped, format=inpt.format, canvas_size=(width, height)
            )
        return tv_tensors.wrap(inpt.as_subclass(Tensor).mT, like=inpt)


class RandomColours(v2.RandomPhotometricDistort):
    """SSD's photometric distortion, but for its permutation of channels, as published for YOLACT.

    Brightness is multiplied and contrast is about the mean, as torchvision has it; YOLACT adds up
    to 32 to the pixels and multiplies them.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {**super().make_params(flat_inputs), "channel_permutation": None}


class RandomCentreCrop(v2.RandomIoUCrop):
    """SSD's random crop as YOLACT runs it: five times in six, with an object's centre in it.

    The crop has 0.3 to 1 of each side and an aspect ratio of 0.5 to 2. SSD also wants some IoU of
    crop and box; in YOLACT's code that condition has no effect, and its authors kept it so, having
    seen it lower the AP. Boxes whose centre is outside become empty, crowds' as well.
    """

    def __init__(self) -> None:
        super().__init__(sampler_options=[1.0, 0.0, 0.0, 0.0, 0.0, 0.0], trials=50)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if params and isinstance(inpt, tv_tensors.BoundingBoxes):
            # Each set of boxes by its own centres: torchvision knows one set only.
            x1, y1, x2, y2 = inpt.as_subclass(Tensor).unbind(1)
            right, bottom = params["left"] + params["width"], params["top"] + params["height"]
            inside = (params["left"] < (x1 + x2) / 2) & ((x1 + x2) / 2 < right)
            inside &= (params["top"] < (y1 + y2) / 2) & ((y1 + y2) / 2 < bottom)
            params = {**params, "is_within_crop_area": inside}
        return super().transform(inpt, params)


def _resize_bitmaps(masks: tv_tensors.Mask, size: Sequence[int]) -> tv_tensors.Mask:
    """By the nearest pixel; exact for any integers, which torchvision would make float32."""
    rows, columns = map(_nearest, masks.shape[-2:], size)
    bitmaps = masks.as_subclass(Tensor).numpy()
    return tv_tensors.Mask(torch.from_numpy(bitmaps.take(rows, -2).take(columns, -1)))


def _nearest(old: int, new: int) -> NDArray[np.int64]:
    """Which of ``old`` pixels is under the centre of each of ``new`` ones, as PIL takes them."""
    places = torch.arange(old, dtype=torch.float32)[None, None]
    return interpolate(places, new, mode="nearest-exact")[0, 0].long().numpy()


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
        shorter, longer_max: as in ``ResizeShorterSide``; without them images keep their size.
        fixed_size: of a model that takes no other: (height, width), in place of these two.
        crop: side in pixels of a random square that is cut out, of images that are smaller with a
            border of the mean colour. Boxes are clipped to it; those outside become empty.
        flip: probability of a horizontal flip; likewise vertical flip and transposition, for data
            without an upright.
        invert: probability that bright becomes dark.
        brightness, contrast: largest relative change, as in ``v2.ColorJitter``.
        blur: largest standard deviation in pixels; half of the images are blurred by a Gaussian.
        ssd: before all that, vary colours, put the image on a canvas of the mean colour with up to
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
    if flip:
        parts.append(v2.RandomHorizontalFlip(flip))
    if vertical_flip:
        parts.append(v2.RandomVerticalFlip(vertical_flip))
    if transpose:
        parts.append(RandomTranspose(transpose))
    if invert:
        parts.append(v2.RandomInvert(invert))
    if brightness or contrast:
        parts.append(v2.ColorJitter(brightness=brightness, contrast=contrast))
    if blur:
        # Beyond three standard deviations a Gaussian is next to nothing.
        size = 2 * math.ceil(3 * blur) + 1
        parts.append(v2.RandomApply([v2.GaussianBlur(size, sigma=(0.1, blur))]))
    return v2.Compose(parts or [v2.Identity()])


def test_transforms(*, shorter: int, longer_max: int) -> v2.Transform:
    """Resize only."""
    return ResizeShorterSide(shorter, longer_max)


test_transforms.__test__ = False  # type: ignore[attr-defined]  # for pytest: not a test
