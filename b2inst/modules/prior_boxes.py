"""Prior boxes, and boxes relative to them (SSD; YOLACT §4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: Offsets of centres and of sizes are in these units.
VARIANCES = (0.1, 0.2)


def prior_boxes(
    shapes: Sequence[tuple[int, int]],
    scales: Sequence[float],
    factors: Sequence[float],
    steps: Sequence[float] | None = None,
) -> Tensor:
    """Squares around the centre of every cell; levels in order, row by row, then by factor.

    YOLACT describes aspect ratios 1, 1/2 and 2, but its published code and weights have squares.

    Args:
        shapes: (h, w) of each level.
        scales: side of each level's squares, in parts of the image's side.
        factors: of the squares of a cell, multiplied by the level's scale.
        steps: from cell to cell of each level, in parts of the image's side (default: a level's
            cells fill a square image).

    Returns:
        S×4 float32: centre x, y, width and height in parts of the image; not clipped.
    """
    levels = []
    for level, ((height, width), scale) in enumerate(zip(shapes, scales, strict=True)):
        down, across = (height, width) if steps is None else [1 / steps[level]] * 2
        ys = (torch.arange(height, dtype=torch.float64) + 0.5) / down
        xs = (torch.arange(width, dtype=torch.float64) + 0.5) / across
        sides = scale * torch.tensor(factors, dtype=torch.float64)
        y, x, side = torch.meshgrid(ys, xs, sides, indexing="ij")
        levels.append(torch.stack([x, y, side, side], dim=-1).reshape(-1, 4))
    return torch.cat(levels).float()


def corners(boxes: Tensor) -> Tensor:
    """…×4 centre x, y, width, height to x1 y1 x2 y2."""
    first = boxes[..., :2] - boxes[..., 2:] / 2
    return torch.cat([first, first + boxes[..., 2:]], dim=-1)


def decode(offsets: Tensor, priors: Tensor) -> Tensor:
    """Predicted offsets …×4 and their priors to boxes …×4 x1 y1 x2 y2; not clipped."""
    centre = priors[..., :2] + offsets[..., :2] * VARIANCES[0] * priors[..., 2:]
    size = priors[..., 2:] * (offsets[..., 2:] * VARIANCES[1]).exp()
    return corners(torch.cat([centre, size], dim=-1))


def encode(boxes: Tensor, priors: Tensor) -> Tensor:
    """Offsets …×4 of boxes …×4; the inverse of ``decode``."""
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2 - priors[..., :2]
    size = (boxes[..., 2:] - boxes[..., :2]) / priors[..., 2:]
    return torch.cat([centre / (VARIANCES[0] * priors[..., 2:]), size.log() / VARIANCES[1]], dim=-1)
