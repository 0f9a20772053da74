"""The losses of the paper and of its baselines, each a function with its source.

All of them work in float32 whatever the precision of the network's outputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss


def focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of the sigmoid focal loss, alpha 0.25, gamma 2 (RetinaNet; FCOS).

    Args:
        logits: P×C.
        labels: P int64; C means background.
    """
    targets = F.one_hot(labels, logits.shape[1] + 1)[:, :-1].float()
    return sigmoid_focal_loss(logits.float(), targets, alpha=0.25, gamma=2, reduction="sum")


def ltrb_giou_loss(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of 1 - GIoU of distances to the four sides (FCOS).

    The published FCOS adds 1 to intersection and union in the IoU; distances are in units of
    the level's stride, so this is a noticeable smoothing, kept for fidelity.

    Args:
        predicted, target: P×4, left top right bottom, non-negative, in strides.
        weights: P.
    """
    predicted = predicted.float()
    area_p = (predicted[:, 0] + predicted[:, 2]) * (predicted[:, 1] + predicted[:, 3])
    area_t = (target[:, 0] + target[:, 2]) * (target[:, 1] + target[:, 3])
    inner = torch.minimum(predicted, target)
    outer = torch.maximum(predicted, target)
    intersection = (inner[:, 0] + inner[:, 2]) * (inner[:, 1] + inner[:, 3])
    hull = (outer[:, 0] + outer[:, 2]) * (outer[:, 1] + outer[:, 3])
    union = area_p + area_t - intersection
    giou = (intersection + 1) / (union + 1) - (hull - union) / hull.clamp(min=1e-7)
    return ((1 - giou) * weights).sum()


def mask_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of P×R×R mask logits, averaged over each RoI: P (BlendMask)."""
    loss = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    return loss.mean((-2, -1))


def dice_loss(probabilities: Tensor, targets: Tensor) -> Tensor:
    """1 - Dice over all but the first dimension, with squared denominators (paper Eq. 1's form).

    Args:
        probabilities, targets: B×..., in [0, 1].

    Returns:
        B, in [0, 1].
    """
    p, t = probabilities.float().flatten(1), targets.flatten(1)
    return 1 - (2 * (p * t).sum(1) + 1) / (p.square().sum(1) + t.square().sum(1) + 1)


def mask_dice(probabilities: Tensor, targets: Tensor) -> Tensor:
    """1 - Dice of each mask, with squared denominators (CondInst Eq. 8; V-Net).

    Unlike ``dice_loss`` with hardly anything in the denominator besides the sums: an empty target
    costs 1 whatever is predicted.

    Args:
        probabilities, targets: P×..., in [0, 1].

    Returns:
        P, in [0, 1].
    """
    p, t = probabilities.float().flatten(1), targets.float().flatten(1)
    return 1 - 2 * (p * t).sum(1) / (p.square().sum(1) + t.square().sum(1) + 1e-5)


def crisp_boundary_loss(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Inverse Dice of Deng et al., "Learning to Predict Crisp Boundaries" (ECCV 2018), minus 1.

    The paper's reference [13] and its third boundary loss (§4.1). The inverse punishes a map
    that misses the boundary far harder than 1 - Dice does; a perfect map gives 0.

    Args:
        probabilities, targets: B×..., in [0, 1].

    Returns:
        B, at least 0.
    """
    p, t = probabilities.float().flatten(1), targets.flatten(1)
    return (p.square().sum(1) + t.square().sum(1) + 1) / (2 * (p * t).sum(1) + 1) - 1
