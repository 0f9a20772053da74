"""From RGB images of any shape to a square network input, as YOLACT takes it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from b2inst.structures import ImageBatch


class SquarePreprocessor(nn.Module):
    """Squeezes images to a square, whatever their shape, and normalises them. No padding.

    Args:
        mean, std: per RGB channel on the 0..255 scale.
        side: of the square, in pixels.
    """

    mean: Tensor
    std: Tensor
    bgr = False
    size_divisor = 1

    def __init__(self, *, mean: Sequence[float], std: Sequence[float], side: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.fixed_size: tuple[int, int] | None = (side, side)
        self.side = side

    def resized(self, image: np.ndarray) -> Tensor:
        """H×W×3 uint8 RGB to 3×S×S float, 0 to 255: OpenCV's bilinear, without antialiasing."""
        squeezed = cv2.resize(image.astype(np.float32), (self.side, self.side))
        return torch.from_numpy(squeezed).permute(2, 0, 1)

    def forward(self, images: list[Tensor]) -> ImageBatch:
        """List of 3×S×S RGB tensors, 0 to 255, to one batch.

        Raises:
            ValueError: an image of another size.
        """
        for image in images:
            if image.shape[1:] != (self.side, self.side):
                raise ValueError(
                    f"an image of {image.shape[1]}×{image.shape[2]} pixels for a model of "
                    f"{self.side}×{self.side}: resize it and its targets first"
                )
        stacked = torch.stack(images).to(self.mean.device).float()
        return ImageBatch((stacked - self.mean) / self.std, [(self.side, self.side)] * len(images))
