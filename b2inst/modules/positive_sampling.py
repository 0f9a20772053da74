"""Sampling of the positives whose masks are trained, to save memory."""

from __future__ import annotations

import torch
from torch import Tensor

from b2inst.structures import Positives


def at_random(positives: Positives, *, per_image: int = 250) -> Positives:
    """All positives, or ``per_image`` at random of an image that has more.

    Published as 500 per device, which has two images (CondInst §4); per image, training does not
    depend on how a batch is spread over devices.
    """
    crowded = (positives.image_index.bincount() > per_image).nonzero()[:, 0]
    if not len(crowded):
        return positives
    keep = torch.ones_like(positives.image_index, dtype=torch.bool)
    for image in crowded:
        rows = (positives.image_index == image).nonzero()[:, 0]
        # On the CPU, whose generator is what an interrupted training restores.
        keep[rows[torch.randperm(len(rows))[per_image:].to(rows.device)]] = False
    return positives[keep]


def best_of_objects(positives: Positives, *, per_image: int) -> Positives:
    """The best predicted positives, ``per_image`` shared evenly by an image's objects.

    Every object with positives keeps at least one; a remainder is left out, as published (BoxInst).
    """
    assert positives.scores is not None
    objects, which = positives.target_index.unique(return_inverse=True)
    image = objects.new_zeros(len(objects)).scatter(0, which, positives.image_index)
    share = (per_image // image.bincount()[positives.image_index]).clamp(min=1)
    return positives[_rank(positives.scores, which) < share]


def _rank(scores: Tensor, group: Tensor) -> Tensor:
    """Rank of each score in its group, the highest first."""
    order = scores.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]
    first = group.bincount().cumsum(0) - group.bincount()
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - first[group[order]]
    return rank
