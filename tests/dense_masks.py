"""TensorMask's conversion of all masks, by that of some windows."""

from __future__ import annotations

import torch
from torch import Tensor

from b2inst.ops.align2nat import natural_masks


def swap_align2nat(aligned: Tensor, factor: int) -> Tensor:
    """Aligned masks B×V×U×H×W to natural ones B×λV×λU×⌈H/λ⌉×⌈W/λ⌉; ``factor`` is λ."""
    batch, high, wide, height, width = aligned.shape
    counts = (batch, -(-height // factor), -(-width // factor))
    places = torch.cartesian_prod(*map(torch.arange, counts))
    own = torch.eye(high * wide).unflatten(0, (high, wide))
    masks = natural_masks(aligned.flatten(1, 2), own, torch.zeros(high, wide), factor, places)
    return masks.unflatten(0, counts).permute(0, 3, 4, 1, 2)
