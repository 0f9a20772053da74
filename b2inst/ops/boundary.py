"""Boundaries of binary masks (paper §4.1 and §4.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_KERNEL = torch.tensor([[-1.0, -1.0, -1.0], [-1.0, 8.0, -1.0], [-1.0, -1.0, -1.0]])


def laplacian_boundary(masks: Tensor, *, frame: str = "replicate") -> Tensor:
    """Where the Laplacian of a binary mask is above zero: its inner boundary, one cell wide.

    Paper §4.1: "We use the Laplacian operator to generate soft boundaries from the binary mask
    ground-truths. The boundaries are then thresholded at 0." With the 8-neighbour kernel (8 in
    the centre) the response is positive exactly at mask cells with a neighbour outside the mask.

    Args:
        masks: ...×H×W, bool or 0/1.
        frame: "replicate" draws no boundary where the frame of the image cuts a mask;
            "constant" takes everything beyond the frame as background.

    Returns:
        ...×H×W bool.
    """
    if masks.numel() == 0:
        return masks.bool()
    height, width = masks.shape[-2:]
    flat = masks.reshape(-1, 1, height, width).float()
    padded = F.pad(flat, (1, 1, 1, 1), mode=frame)
    response = F.conv2d(padded, _KERNEL.to(padded)[None, None])
    # Exact arithmetic on 0/1 masks: the smallest positive response is 1.
    return (response > 0.5).reshape(masks.shape)


def boundary_target(masks: Tensor, *, stride: int, size: tuple[int, int]) -> Tensor:
    """Holistic boundary of all instances of an image, at the basis grid (paper §4.1).

    Each mask is sampled at the grid's cell centres, its Laplacian boundary taken there, and the
    union over the instances kept, so that the line between two touching instances is drawn from
    both sides.

    Args:
        masks: N×H×W uint8 or bool, in network-input pixels.
        stride: input pixels per grid cell.
        size: (h, w) of the basis grid; cells beyond H×W (padding) are 0.

    Returns:
        h×w float, 0 or 1.
    """
    centre = stride // 2
    sampled = masks[:, centre::stride, centre::stride]
    target = masks.new_zeros(size, dtype=torch.float32)
    boundary = laplacian_boundary(sampled).any(0)
    target[: boundary.shape[0], : boundary.shape[1]] = boundary
    return target
