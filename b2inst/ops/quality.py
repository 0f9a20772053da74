"""How well a predicted mask agrees with the true one: area and boundary (paper §4.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from b2inst.ops.boundary import laplacian_boundary
from b2inst.ops.masks import box_windows
from b2inst.structures import Masks

EPSILON = 1e-5  #: the paper's soft term ε of Eq. 1
_TOGETHER, _CELLS = 16, 2**21  # masks, and pixels of their windows, that are looked at together


def mask_iou(predicted: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union of two bool masks of one shape ...×H×W; 0 where both are empty."""
    union = (predicted | truth).sum((-2, -1))
    return (predicted & truth).sum((-2, -1)) / union.clamp(min=1)


def boundary_dice(predicted: Tensor, truth: Tensor) -> Tensor:
    """S_boundary, paper Eq. 1: Dice of the Laplacian boundaries of two masks ...×H×W, in [0, 1].

    The frame counts as background: a box of a mask is its tight crop.
    """
    b_pred = laplacian_boundary(predicted, frame="constant").float()
    b_gt = laplacian_boundary(truth, frame="constant").float()
    overlap = (b_pred * b_gt).sum((-2, -1))
    total = b_pred.square().sum((-2, -1)) + b_gt.square().sum((-2, -1))
    return (2 * overlap + EPSILON) / (total + EPSILON)


def mask_quality(masks: Masks, truths: Tensor) -> tuple[Tensor, Tensor]:
    """Mask IoU and boundary Dice in each mask's box, at its own resolution (Eq. 1's h×w).

    Args:
        masks: N, with boxes in the pixels of ``truths``.
        truths: N×H×W uint8 or bool, the true mask of each.

    Returns:
        IoU (N) and boundary Dice (N), float in [0, 1]; 0 for a box outside the image.
    """
    iou, dice = torch.zeros(2, len(masks), device=masks.boxes.device)
    windows = box_windows(masks.boxes, (truths.shape[1], truths.shape[2]))
    sides = windows[:, 2:] - windows[:, :2]
    order = sides.amax(1).argsort(descending=True)  # those of about one size go together
    extents = [extent for extent in sides[order].tolist() if extent[0]]  # the others come last
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
