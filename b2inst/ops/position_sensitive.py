"""Position-sensitive pooling of regions (Dai et al., "R-FCN", NeurIPS 2016)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import ps_roi_align


def assemble_regions(maps: Tensor, rois: Tensor, parts: int, size: int, scale: float) -> Tensor:
    """Assemble maps of boxes from score maps of their parts (FCIS §2.1).

    A box is divided into parts×parts. Each of its cells is read, linearly interpolated at its
    centre, from the score map of the part that it lies in.

    Args:
        maps: B×(C·parts²)×h×w; the score maps of a channel's parts are neighbours, row by row.
        rois: N×5, index of the image in the batch and x1 y1 x2 y2.
        parts: Parts along a side.
        size: Cells along a side, a multiple of ``parts``.
        scale: Cells of the score maps per pixel of the boxes.

    Returns:
        N×C×size×size float32.
    """
    each = size // parts
    # torchvision reads the middle of each part; a shifted box has the part's other cells there.
    steps = (torch.arange(each, device=rois.device) - (each - 1) / 2) / size
    down, along = torch.meshgrid(steps, steps, indexing="ij")
    shift = torch.stack([along, down, along, down], dim=-1)  # in sides of a box
    image, corners = rois[:, None, None, :1], rois[:, None, None, 1:]
    sides = (corners[..., 2:] - corners[..., :2]).repeat(1, 1, 1, 2)
    shifted = torch.cat([image.expand(-1, each, each, -1), corners + sides * shift], dim=-1)
    cells = ps_roi_align(maps.float(), shifted.flatten(0, 2), parts, scale, sampling_ratio=1)
    cells = cells.unflatten(0, shifted.shape[:3]).permute(0, 3, 4, 1, 5, 2)
    return cells.flatten(4, 5).flatten(2, 3)
