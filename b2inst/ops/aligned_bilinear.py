"""CondInst's upsampling."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def aligned_bilinear(maps: Tensor, factor: int) -> Tensor:
    """Upsample maps so that cell ``i`` of the input is cell ``factor·i + factor//2`` of the output.

    The result is linear between these cells, and constant beyond the first and last of them. This
    differs from ``F.interpolate`` with and without aligned corners.

    Args:
        maps: Feature maps, N×C×h×w.
        factor: Upsampling factor, 1 or more.

    Returns:
        N×C×(factor·h)×(factor·w).
    """
    height, width = maps.shape[-2:]
    # With one more cell on each side, cells are exactly ``factor`` apart when corners are aligned.
    grown = F.interpolate(
        F.pad(maps, (1, 1, 1, 1), mode="replicate"),
        size=(factor * (height + 1) + 1, factor * (width + 1) + 1),
        mode="bilinear",
        align_corners=True,
    )
    first = factor - factor // 2
    return grown[..., first : first + factor * height, first : first + factor * width]
