"""CondInst's way to enlarge maps."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def aligned_bilinear(maps: Tensor, factor: int) -> Tensor:
    """Enlarge maps so that cell ``i`` of the input is cell ``factor·i + factor//2`` of the output.

    Between those cells the result is linear, beyond the first and last of them constant. In
    pixels this is not where ``F.interpolate`` puts the cells, with its corners aligned or not.

    Args:
        maps: N×C×h×w.
        factor: 1 or more.

    Returns:
        N×C×(factor·h)×(factor·w).
    """
    height, width = maps.shape[-2:]
    # With one more cell on either side, cells lie exactly ``factor`` apart when corners align.
    grown = F.interpolate(
        F.pad(maps, (1, 1, 1, 1), mode="replicate"),
        size=(factor * (height + 1) + 1, factor * (width + 1) + 1),
        mode="bilinear",
        align_corners=True,
    )
    first = factor - factor // 2
    return grown[..., first : first + factor * height, first : first + factor * width]
