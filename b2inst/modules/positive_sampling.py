"""Which positives train masks, where there is no memory for the masks of all."""

from __future__ import annotations

import torch
from torch import Tensor

from b2inst.structures import Positives


def at_random(positives: Positives, *, limit: int = 500) -> Positives:
    """All positives of a batch, or that many of them drawn at random (CondInst §4)."""
    if len(positives) <= limit:
        return positives
    # On the CPU, whose generator is what an interrupted training restores.
    return positives[torch.randperm(len(positives))[:limit].to(positives.image_index.device)]


def best_of_objects(positives: Positives, *, per_image: int) -> Positives:
    """The best predicted positives, at most ``per_image`` shared evenly by an image's objects.

    Every object that has positives keeps at least one of them; what does not divide evenly is
    left out, as published (BoxInst's sampling).
    """
    assert positives.scores is not None
    objects, which = positives.target_index.unique(return_inverse=True)
    image = objects.new_zeros(len(objects)).scatter(0, which, positives.image_index)
    share = (per_image // image.bincount()[positives.image_index]).clamp(min=1)
    return positives[_rank(positives.scores, which) < share]


def _rank(scores: Tensor, group: Tensor) -> Tensor:
    """Place of each score among those of its group, the highest first."""
    order = scores.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]
    first = group.bincount().cumsum(0) - group.bincount()
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device) - first[group[order]]
    return rank
