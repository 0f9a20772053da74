"""How well a predicted mask agrees with the true one: area and boundary (paper §4.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from b2inst.ops.boundary import laplacian_boundary
from b2inst.ops.masks import box_window
from b2inst.structures import Masks

EPSILON = 1e-5  #: the paper's soft term ε of Eq. 1


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
    boxes = masks.boxes
    iou = torch.zeros(len(boxes), device=boxes.device)
    dice = torch.zeros(len(boxes), device=boxes.device)
    for i, box in enumerate(boxes):
        top, left, bottom, right = window = box_window(box, (truths.shape[1], truths.shape[2]))
        if bottom > top and right > left and box[2] > box[0] and box[3] > box[1]:
            predicted = masks.inside(i, window)
            truth = truths[i, top:bottom, left:right].bool()
            iou[i] = mask_iou(predicted, truth)
            dice[i] = boundary_dice(predicted, truth)
    return iou, dice
