"""Prior boxes, and their assignment to objects (SSD; YOLACT §4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

#: Units of the offsets of centres and of sizes.
VARIANCES = (0.1, 0.2)
BACKGROUND = -1
NEUTRAL = -2  #: not trained


def prior_boxes(
    shapes: Sequence[tuple[int, int]],
    scales: Sequence[float],
    factors: Sequence[float],
    steps: Sequence[float] | None = None,
) -> Tensor:
    """Squares around the centre of every cell; levels in order, row by row, then by factor.

    Lengths are in parts of the image's side. YOLACT describes other ratios, but publishes squares.

    Args:
        shapes: (h, w) of each level.
        scales: Side of each level's squares.
        factors: Of the squares of a cell, multiplied by the level's scale.
        steps: From cell to cell of each level (default: a level's cells fill a square image).

    Returns:
        S×4 float32: centre x, y, width and height; not clipped.
    """
    levels = []
    for level, ((height, width), scale) in enumerate(zip(shapes, scales, strict=True)):
        down, across = (height, width) if steps is None else [1 / steps[level]] * 2
        ys = (torch.arange(height, dtype=torch.float64) + 0.5) / down
        xs = (torch.arange(width, dtype=torch.float64) + 0.5) / across
        sides = scale * torch.tensor(factors, dtype=torch.float64)
        y, x, side = torch.meshgrid(ys, xs, sides, indexing="ij")
        levels.append(torch.stack([x, y, side, side], dim=-1).reshape(-1, 4))
    return torch.cat(levels).float()


def corners(boxes: Tensor) -> Tensor:
    """…×4 centre x, y, width, height to x1 y1 x2 y2."""
    first = boxes[..., :2] - boxes[..., 2:] / 2
    return torch.cat([first, first + boxes[..., 2:]], dim=-1)


def decode(offsets: Tensor, priors: Tensor) -> Tensor:
    """Predicted offsets …×4 and their priors to boxes …×4 x1 y1 x2 y2; not clipped."""
    centre = priors[..., :2] + offsets[..., :2] * VARIANCES[0] * priors[..., 2:]
    size = priors[..., 2:] * (offsets[..., 2:] * VARIANCES[1]).exp()
    return corners(torch.cat([centre, size], dim=-1))


def encode(boxes: Tensor, priors: Tensor) -> Tensor:
    """Offsets …×4 of boxes …×4; the inverse of ``decode``."""
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2 - priors[..., :2]
    size = (boxes[..., 2:] - boxes[..., :2]) / priors[..., 2:]
    return torch.cat([centre / (VARIANCES[0] * priors[..., 2:]), size.log() / VARIANCES[1]], dim=-1)


@dataclass
class PriorTargets:
    """Targets at every prior box of B images."""

    labels: Tensor  #: B×S int64: class, BACKGROUND or NEUTRAL
    target_index: Tensor  #: B×S int64, row in the image's own targets; 0 where there is none
    offsets: Tensor  #: B×S×4, see ``encode``; 0 where not positive
    overlaps: Tensor  #: B×S IoU with that target


def assign(
    priors: Tensor,
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    crowds: Sequence[Tensor | None],
) -> PriorTargets:
    """Assign priors to objects by IoU.

    A prior is positive for the object it overlaps most, from 0.5 on; below 0.4 it is background.
    Then each object, in the order of its best overlap, gets the best prior that is left. Other
    priors with more than 0.7 of their area in a crowd are neutral.

    Args:
        priors: S×4 centre x, y, width and height.
        boxes: Of each image N×4 x1 y1 x2 y2, in the same units.
        labels: Of each image N.
        crowds: Of each image M×4 boxes of crowd regions, if they are known.
    """
    images = [_assign_image(priors, *image) for image in zip(boxes, labels, strict=True)]
    targets = PriorTargets(*(torch.stack(column) for column in zip(*images, strict=True)))
    for own, regions in zip(targets.labels, crowds, strict=True):
        if regions is not None and len(regions):
            own[(own < 0) & (_share_inside(priors, regions) > 0.7)] = NEUTRAL
    return targets


def _assign_image(
    priors: Tensor, boxes: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if not len(boxes):
        background = torch.full((len(priors),), BACKGROUND, device=priors.device)
        nothing = torch.zeros_like(priors)
        return background, torch.zeros_like(background), nothing, nothing[:, 0]
    overlaps = box_iou(boxes, corners(priors))  # N×S
    best, index = overlaps.max(0)
    forced = _best_free(overlaps)
    index[forced] = torch.arange(len(boxes), device=boxes.device)
    best[forced] = 1
    positive = best >= 0.5
    unsure = torch.where(best < 0.4, BACKGROUND, NEUTRAL)
    return (
        torch.where(positive, labels[index], unsure),
        index,
        torch.where(positive[:, None], encode(boxes[index], priors), 0.0),
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
        left[:, prior[chosen]] = left[chosen] = -1
    return priors


def _share_inside(priors: Tensor, regions: Tensor) -> Tensor:
    """Largest part of each prior's area that is in one of the M regions: S."""
    box = corners(priors)[:, None]
    both = torch.minimum(box[..., 2:], regions[:, 2:]) - torch.maximum(box[..., :2], regions[:, :2])
    return both.clamp(min=0).prod(-1).amax(1) / priors[:, 2:].prod(1)
