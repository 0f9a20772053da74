"""Agreement of predicted and true masks: area and boundary (paper §4.2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from b2inst.ops.boundary import laplacian_boundary
from b2inst.ops.masks import box_windows

EPSILON = 1e-5  #: the paper's soft term ε of Eq. 1
_TOGETHER, _CELLS = 16, 2**21  # masks, and pixels of their windows, that are processed at once


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
    return (2 * overlap + EPSILON) / (b_pred.sum((-2, -1)) + b_gt.sum((-2, -1)) + EPSILON)


def mask_quality(masks: Any, truths: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mask IoU and boundary Dice inside each box, in network-input pixels (Eq. 1's h×w).

    Args:
        masks: N ``Masks`` (``b2inst.structures``), with boxes in the pixels of ``truths``.
        truths: True mask of each, N×H×W uint8 or bool.

    Returns:
        IoU and boundary Dice, N each in [0, 1]; 0 for boxes outside the image.
    """
    iou, dice = (masks.boxes.new_zeros(len(masks), dtype=torch.float32) for _ in range(2))
    windows = box_windows(masks.boxes, (truths.shape[1], truths.shape[2]))
    sides = windows[:, 2:] - windows[:, :2]
    order = sides.amax(1).argsort(descending=True)  # to process similar sizes together
    extents = [extent for extent in sides[order].tolist() if extent[0]]  # empty ones come last
    stop = 0
    while stop < len(extents):
        start = stop
        stop = min(start + max(min(_TOGETHER, _CELLS // max(extents[start]) ** 2), 1), len(extents))
        height, width = map(max, zip(*extents[start:stop], strict=True))
        chosen = order[start:stop]
        top, left, bottom, right = windows[chosen, :, None].unbind(1)
        rows = top + torch.arange(height, device=top.device)
        columns = left + torch.arange(width, device=top.device)
        inside = (rows < bottom)[:, :, None] & (columns < right)[:, None]
        down, along = rows.clamp(max=truths.shape[1] - 1), columns.clamp(max=truths.shape[2] - 1)
        truth = truths[chosen[:, None, None], down[:, :, None], along[:, None]].bool() & inside
        predicted = masks[chosen].at(rows, columns) & inside
        iou[chosen], dice[chosen] = mask_iou(predicted, truth), boundary_dice(predicted, truth)
    return iou, dice
