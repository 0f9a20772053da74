"""Assignment of prior boxes to objects (YOLACT, after SSD)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

from b2inst.modules.prior_boxes import corners, encode

BACKGROUND = -1
NEUTRAL = -2


@dataclass
class PriorTargets:
    """Targets at every prior box of B images."""

    labels: Tensor  #: B×S int64: class, BACKGROUND or NEUTRAL, which is not trained
    target_index: Tensor  #: B×S int64, row in the image's own targets; 0 where there is none
    offsets: Tensor  #: B×S×4, as ``prior_boxes.encode`` gives them; 0 where not positive
    overlaps: Tensor  #: B×S IoU with that target


def assign(
    priors: Tensor,
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    crowds: Sequence[Tensor | None],
    *,
    positive: float = 0.5,
    negative: float = 0.4,
    in_crowd: float = 0.7,
) -> PriorTargets:
    """Assign priors to objects by IoU.

    A prior is positive for the object it overlaps most, from ``positive`` on; below ``negative``
    it is background. Then each object, in the order of its best overlap, gets the best prior that
    is left. Other priors with more than ``in_crowd`` of their area in a crowd are neutral.

    Args:
        priors: S×4 centre x, y, width and height.
        boxes: of each image N×4 x1 y1 x2 y2, in the same units.
        labels: of each image N.
        crowds: of each image M×4 boxes of crowd regions, if they are known.
    """
    images = [
        _assign_image(priors, own, classes, positive, negative)
        for own, classes in zip(boxes, labels, strict=True)
    ]
    targets = PriorTargets(*(torch.stack(column) for column in zip(*images, strict=True)))
    for own, regions in zip(targets.labels, crowds, strict=True):
        if regions is not None and len(regions):
            own[(own < 0) & (_share_inside(priors, regions) > in_crowd)] = NEUTRAL
    return targets


def _assign_image(
    priors: Tensor, boxes: Tensor, labels: Tensor, positive: float, negative: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if not len(boxes):
        background = torch.full((len(priors),), BACKGROUND, device=priors.device)
        nothing = torch.zeros_like(priors)
        return background, torch.zeros_like(background), nothing, nothing[:, 0]
    overlaps = box_iou(boxes, corners(priors))  # N×S
    best, index = overlaps.max(0)
    forced = _best_free(overlaps)
    index[forced] = torch.arange(len(boxes), device=boxes.device)
    is_positive = best >= positive
    is_positive[forced] = True
    unsure = torch.where(best < negative, BACKGROUND, NEUTRAL)
    offsets = torch.where(is_positive[:, None], encode(boxes[index], priors), 0.0)
    return (
        torch.where(is_positive, labels[index], unsure),
        index,
        offsets,
        overlaps.gather(0, index[None])[0],
    )


def _best_free(overlaps: Tensor) -> Tensor:
    """Each object's prior: N×S overlaps to N, all different."""
    left = overlaps.clone()
    priors = torch.zeros(len(left), dtype=torch.int64, device=left.device)
    for _ in range(len(left)):
        best, prior = left.max(1)
        chosen = best.argmax()
        priors[chosen] = prior[chosen]
        left[:, prior[chosen]] = -1
        left[chosen] = -1
    return priors


def _share_inside(priors: Tensor, regions: Tensor) -> Tensor:
    """Largest part of each prior's area that is in one of the M regions: S."""
    box = corners(priors)[:, None]
    both = torch.minimum(box[..., 2:], regions[:, 2:]) - torch.maximum(box[..., :2], regions[:, :2])
    return both.clamp(min=0).prod(-1).amax(1) / priors[:, 2:].prod(1)
