"""Boundaries of binary masks (paper §4.1 and §4.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def laplacian_boundary(masks: Tensor, *, frame: str = "replicate") -> Tensor:
    """Find cells of ...×H×W masks with a neighbour outside (8-neighbour Laplacian > 0, §4.1): bool.

    Args:
        masks: Bool or 0/1.
        frame: Outside of the image: "replicate" continues the masks, so that no boundary runs
            along the frame; "constant" is background.
    """
    inside = masks.bool()
    padded = F.pad(inside, (1, 1, 1, 1), value=frame == "replicate")
    rows = padded[..., :-2, :] & padded[..., 1:-1, :] & padded[..., 2:, :]
    return inside & ~(rows[..., :-2] & rows[..., 1:-1] & rows[..., 2:])


def boundary_target(
    masks: Tensor, *, stride: float, size: tuple[int, int], two_sided: bool = False
) -> Tensor:
    """Draw the boundaries of all instances on the basis grid, sampled at cell centres (§4.1).

    Args:
        masks: N×H×W uint8 or bool, in network-input pixels.
        stride: Input pixels per grid cell.
        size: (h, w) of the basis grid; cells outside H×W (padding) are 0.
        two_sided: Whether to include the cells just outside a mask (negative Laplacian).

    Returns:
        h×w float, 0 or 1.
    """
    # On the CPU, since the number of cells inside the image is a shape.
    rows, columns = (((torch.arange(cells) + 0.5) * stride).long() for cells in size)
    sampled = masks[:, rows[rows < masks.shape[1]]][:, :, columns[columns < masks.shape[2]]]
    target = masks.new_zeros(size, dtype=torch.float32)
    boundary = laplacian_boundary(sampled)
    if two_sided:
        boundary |= laplacian_boundary(~sampled.bool())
    target[: boundary.shape[1], : boundary.shape[2]] = boundary.any(0)
    return target
