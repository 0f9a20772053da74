"""From RGB uint8 images to the network's input."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as TF
from PIL import Image
from torch import Tensor, nn

from b2inst.ops.images import resized_size
from b2inst.structures import ImageBatch


class Preprocessor(nn.Module):
    """Resizes images, normalises them, and pads them with zeros at right and bottom to one size.

    Args:
        mean, std: Per channel on the 0..255 scale, in the network's channel order.
        bgr: The network takes BGR (the MSRA weights of detectron2).
        size_divisor: Padded sides are multiples of it.
        shorter, longer_max: Test size of images; None keeps their own.
    """

    mean: Tensor  #: 3×1×1
    std: Tensor  #: 3×1×1
    fixed_size: tuple[int, int] | None = None  #: (height, width) of all images; None: any

    def __init__(
        self,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        bgr: bool = False,
        size_divisor: int = 32,
        shorter: int | None = 800,
        longer_max: int | None = 1333,
    ) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.bgr = bgr
        self.size_divisor = size_divisor
        self.shorter = shorter
        self.longer_max = longer_max

    def resized(self, image: np.ndarray) -> Tensor:
        """H×W×3 uint8 RGB to 3×h×w uint8 at the test size, bilinear with PIL's antialiasing."""
        picture = Image.fromarray(image)
        if self.shorter is not None and self.longer_max is not None:
            sides = image.shape[0], image.shape[1]
            height, width = resized_size(*sides, self.shorter, self.longer_max)
            picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        return TF.pil_to_tensor(picture)

    def forward(self, images: list[Tensor]) -> ImageBatch:
        """Batch of 3×H×W RGB images, 0 to 255, already at the network's size."""
        sizes = [(image.shape[1], image.shape[2]) for image in images]
        longest = map(max, zip(*sizes, strict=True))
        height, width = (-(-side // self.size_divisor) * self.size_divisor for side in longest)
        padded = []
        for image in images:
            pixels = image.to(self.mean.device).float()
            pixels = ((pixels.flip(0) if self.bgr else pixels) - self.mean) / self.std
            padded.append(F.pad(pixels, (0, width - image.shape[2], 0, height - image.shape[1])))
        return ImageBatch(torch.stack(padded), sizes)


class SquarePreprocessor(Preprocessor):
    """Squeezes images to a square, whatever their shape, as YOLACT does. No padding."""

    def __init__(self, *, mean: Sequence[float], std: Sequence[float], side: int) -> None:
        super().__init__(mean=mean, std=std, size_divisor=1)
        self.side = side
        self.fixed_size = (side, side)

    def resized(self, image: np.ndarray) -> Tensor:
        """H×W×3 uint8 RGB to 3×S×S float, 0 to 255: OpenCV's bilinear, without antialiasing."""
        squeezed = cv2.resize(image.astype(np.float32), (self.side, self.side))
        return torch.from_numpy(squeezed).permute(2, 0, 1)

    def forward(self, images: list[Tensor]) -> ImageBatch:
        for _, height, width in (image.shape for image in images):
            if (height, width) != self.fixed_size:
                raise ValueError(
                    f"an image of {height}×{width} pixels for a model of {self.side}×{self.side}: "
                    "resize it and its targets first"
                )
        return super().forward(images)
