"""Boundaries of binary masks (paper §4.1 and §4.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def laplacian_boundary(masks: Tensor, *, frame: str = "replicate") -> Tensor:
    """Threshold the Laplacian of binary masks at 0: their inner boundaries, one cell wide (§4.1).

    With the 8-neighbour kernel (8 in the centre) the response is positive exactly at mask cells
    with a neighbour outside the mask: the mask without its erosion, computed on bytes.

    Args:
        masks: ...×H×W, bool or 0/1; so is the result, as bool.
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
    """Draw the boundaries of all instances of an image on the basis grid (paper §4.1).

    Masks are sampled at the centres of the grid cells. Touching instances both draw their line.

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
    boundary = boundary.any(0)
    target[: boundary.shape[0], : boundary.shape[1]] = boundary
    return target
