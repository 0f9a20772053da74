"""The losses of the paper and of its baselines, in float32 whatever the network's precision."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of the sigmoid focal loss of P×C logits, alpha 0.25, gamma 2; label C is background."""
    logits = logits.float()
    # All as if they were background, then what a label changes: few maps are kept for gradients.
    background = 0.75 * (logits.sigmoid().square() * F.softplus(logits)).sum()
    positive = labels < logits.shape[1]
    own = logits.gather(1, labels.clamp(max=logits.shape[1] - 1)[:, None])[:, 0]
    p = own.sigmoid()
    changed = 0.25 * (1 - p).square() * F.softplus(-own) - 0.75 * p.square() * F.softplus(own)
    return background + torch.where(positive, changed, 0).sum()


def focal_loss_star(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of FL*, alpha 0.3, gamma 3 (RetinaNet's appendix; TensorMask): see ``focal_loss``."""
    logits = logits.float()
    positive = labels < logits.shape[1]
    own = logits[positive, labels[positive]]
    changed = 0.3 * F.softplus(-own, beta=3) - 0.7 * F.softplus(own, beta=3)
    return 0.7 * F.softplus(logits, beta=3).sum() + changed.sum()


def ltrb_giou_loss(predicted: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of 1 - GIoU of P×4 non-negative distances to the four sides (FCOS).

    As published, 1 is added to intersection and union in the IoU: a noticeable smoothing, since
    distances are in units of the level's stride.
    """
    predicted = predicted.float()
    intersection = _area(torch.minimum(predicted, target))
    hull = _area(torch.maximum(predicted, target))
    union = _area(predicted) + _area(target) - intersection
    giou = (intersection + 1) / (union + 1) - (hull - union) / hull.clamp(min=1e-7)
    return ((1 - giou) * weights).sum()


def _area(ltrb: Tensor) -> Tensor:
    return (ltrb[:, 0] + ltrb[:, 2]) * (ltrb[:, 1] + ltrb[:, 3])


def mask_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of P×R×R mask logits, averaged over each RoI: P (BlendMask)."""
    loss = F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none")
    return loss.mean((-2, -1))


def dice_loss(probabilities: Tensor, targets: Tensor) -> Tensor:
    """1 - Dice of B×... maps in [0, 1], with squared denominators (paper Eq. 1's form): B."""
    p, t = probabilities.float().flatten(1), targets.flatten(1)
    return 1 - (2 * (p * t).sum(1) + 1) / (p.square().sum(1) + t.square().sum(1) + 1)


def mask_dice(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Like ``dice_loss``, but an empty target costs 1 whatever is predicted (CondInst Eq. 8)."""
    p, t = probabilities.float().flatten(1), targets.float().flatten(1)
    return 1 - 2 * (p * t).sum(1) / (p.square().sum(1) + t.square().sum(1) + 1e-5)


def crisp_boundary_loss(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Inverse Dice, minus 1, of B×... maps in [0, 1]: B (the paper's [13], Deng et al., ECCV 2018).

    It punishes a map that misses the boundary far harder than 1 - Dice does.
    """
    p, t = probabilities.float().flatten(1), targets.flatten(1)
    return (p.square().sum(1) + t.square().sum(1) + 1) / (2 * (p * t).sum(1) + 1) - 1


def hard_negative_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum of the cross-entropy of positives and of three times as many hard negatives per image.

    Args:
        logits: B×S×(1+C), background first.
        labels: B×S int64; 0 is background, negative labels are left out.
    """
    logits = logits.float()
    with torch.no_grad():
        hardness = torch.logsumexp(logits, dim=2) - logits[..., 0]
        hardness = torch.where(labels == 0, hardness, 0.0)
        rank = hardness.argsort(dim=1, descending=True).argsort(dim=1)
        wanted = (3 * (labels > 0).sum(1, keepdim=True)).clamp(max=labels.shape[1] - 1)
        chosen = (labels > 0) | ((labels == 0) & (rank < wanted))
    return F.cross_entropy(logits[chosen], labels[chosen], reduction="sum")


def cropped_mask_bce(probabilities: Tensor, targets: Tensor, boxes: Tensor) -> Tensor:
    """Cross-entropy of P×h×w masks that are 0 outside their boxes, divided by the box's area: P.

    Boxes are P×4 x1 y1 x2 y2, in cells. A target beyond the crop costs 100 a cell, where PyTorch
    stops the logarithm (YOLACT).
    """
    # A GPU's mixed precision refuses this loss, also of float32.
    with torch.autocast(probabilities.device.type, enabled=False):
        loss = F.binary_cross_entropy(probabilities.float(), targets, reduction="none")
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return loss.sum((-2, -1)) / area
