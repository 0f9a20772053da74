"""Agreement of predicted and true masks: area and boundary (paper §4.2)."""

from __future__ import annotations

from typing import Protocol, Self

import torch
from torch import Tensor

from b2inst.ops.boundary import laplacian_boundary
from b2inst.ops.masks import box_windows

EPSILON = 1e-5  #: the paper's soft term ε of Eq. 1
_TOGETHER, _CELLS = 16, 2**21  # masks, and pixels of their windows, that are processed at once


class SampledMasks(Protocol):
    """Masks that can be read at any pixels of the network's input."""

    boxes: Tensor  #: N×4, in network-input pixels

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor | slice) -> Self: ...

    def at(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Read each mask at its own pixels: N×h rows and N×w columns to N×h×w bool."""


def mask_iou(predicted: Tensor, truth: Tensor) -> Tensor:
    """Compute the intersection over union of bool masks ...×H×W; 0 if both are empty."""
    union = (predicted | truth).sum((-2, -1))
    return (predicted & truth).sum((-2, -1)) / union.clamp(min=1)


def boundary_dice(predicted: Tensor, truth: Tensor) -> Tensor:
    """Compute S_boundary (Eq. 1), the Dice in [0, 1] of the Laplacian boundaries of ...×H×W masks.

    The outside of the frame counts as background, since the frame is the box of the mask.
    """
    b_pred, b_gt = (laplacian_boundary(m, frame="constant").float() for m in (predicted, truth))
    overlap = (b_pred * b_gt).sum((-2, -1))
    total = b_pred.square().sum((-2, -1)) + b_gt.square().sum((-2, -1))
    return (2 * overlap + EPSILON) / (total + EPSILON)


def mask_quality(masks: SampledMasks, truths: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mask IoU and boundary Dice inside each box, in network-input pixels (Eq. 1's h×w).

    Args:
        masks: N masks, with boxes in the pixels of ``truths``.
        truths: True mask of each, N×H×W uint8 or bool.

    Returns:
        IoU and boundary Dice, N each in [0, 1]; 0 for boxes outside the image.
    """
    iou, dice = (masks.boxes.new_zeros(len(masks), dtype=torch.float32) for _ in range(2))
    windows = box_windows(masks.boxes, (truths.shape[1], truths.shape[2]))
    sides = windows[:, 2:] - windows[:, :2]
    order = sides.amax(1).argsort(descending=True)  # to process similar sizes together
    extents = [extent for extent in sides[order].tolist() if extent[0]]  # empty ones come last
    start = 0
    while start < len(extents):
        stop = start + max(min(_TOGETHER, _CELLS // max(extents[start]) ** 2), 1)
        height, width = map(max, zip(*extents[start:stop], strict=True))
        chosen = order[start : min(stop, len(extents))]
        start = stop
        top, left, bottom, right = windows[chosen, :, None].unbind(1)
        rows = top + torch.arange(height, device=top.device)
        columns = left + torch.arange(width, device=top.device)
        inside = (rows < bottom)[:, :, None] & (columns < right)[:, None]
        down, along = rows.clamp(max=truths.shape[1] - 1), columns.clamp(max=truths.shape[2] - 1)
        truth = truths[chosen[:, None, None], down[:, :, None], along[:, None]].bool() & inside
        predicted = masks[chosen].at(rows, columns) & inside
        iou[chosen], dice[chosen] = mask_iou(predicted, truth), boundary_dice(predicted, truth)
    return iou, dice
