"""Agreement of predicted and true masks: area and boundary (paper §4.2)."""

from __future__ import annotations

from typing import Protocol, Self

import torch
from torch import Tensor

from b2inst.ops.boundary import laplacian_boundary
from b2inst.ops.masks import box_windows

EPSILON = 1e-5  #: the paper's soft term ε of Eq. 1


class SampledMasks(Protocol):
    """Masks that can be read at any pixels of the network's input."""

    boxes: Tensor  #: N×4, in network-input pixels

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor | slice) -> Self: ...

    def at(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Read the masks at h rows and w columns of pixels: N×h×w bool."""


def mask_iou(predicted: Tensor, truth: Tensor) -> Tensor:
    """Compute the intersection over union of bool masks ...×H×W; 0 if both are empty."""
    union = (predicted | truth).sum((-2, -1))
    return (predicted & truth).sum((-2, -1)) / union.clamp(min=1)


def boundary_dice(predicted: Tensor, truth: Tensor) -> Tensor:
    """Compute S_boundary (Eq. 1), the Dice in [0, 1] of the Laplacian boundaries of ...×H×W masks.

    The outside of the frame counts as background, since the frame is the box of the mask.
    """
    b_pred = laplacian_boundary(predicted, frame="constant").float()
    b_gt = laplacian_boundary(truth, frame="constant").float()
    overlap = (b_pred * b_gt).sum((-2, -1))
    total = b_pred.square().sum((-2, -1)) + b_gt.square().sum((-2, -1))
    return (2 * overlap + EPSILON) / (total + EPSILON)


def mask_quality(masks: SampledMasks, truths: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mask IoU and boundary Dice inside each box, in network-input pixels (Eq. 1's h×w).

    Args:
        masks: N masks, with boxes in the pixels of ``truths``.
        truths: True mask of each, N×H×W uint8 or bool.

    Returns:
        IoU (N) and boundary Dice (N), float in [0, 1]; 0 for boxes outside the image.
    """
    iou, dice = (masks.boxes.new_zeros(len(masks), dtype=torch.float32) for _ in range(2))
    windows = box_windows(masks.boxes, (truths.shape[1], truths.shape[2])).tolist()
    for i, (top, left, bottom, right) in enumerate(windows):
        if bottom > top and right > left:
            rows, columns = (
                torch.arange(start, stop, device=truths.device)
                for start, stop in ((top, bottom), (left, right))
            )
            predicted = masks[i : i + 1].at(rows, columns)[0]
            truth = truths[i, top:bottom, left:right].bool()
            iou[i], dice[i] = mask_iou(predicted, truth), boundary_dice(predicted, truth)
    return iou, dice
