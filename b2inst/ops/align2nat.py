"""Structured 4D tensors of masks: a V×U mask at every cell of an H×W map (TensorMask §3).

In the natural representation, entry (v, u, y, x) is cell (v, u) of the mask in the window around
(y, x); in the aligned one, the value at (y, x) of the mask whose cell (v, u) this place is.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from b2inst.ops.frame_masks import portions

#: Logit beyond the map and beyond aligned masks, as in detectron2.
OUTSIDE = -6.0


def natural_masks(
    maps: Tensor, weight: Tensor, bias: Tensor, factor: int, places: Tensor
) -> Tensor:
    """Convert aligned masks that are linear in maps to natural ones, in some windows.

    Cells of aligned masks are λ×λ cells of the map, and interpolated linearly (``swap_align2nat``
    of the paper). Maps and weights are, rather than their products, of which few are needed.

    Args:
        maps: B×C×H×W.
        weight: V×U×C.
        bias: V×U.
        factor: λ.
        places: Image, row and column of the windows, N×3 int64.

    Returns:
        N×λV×λU float32.
    """
    image, rows, columns = places.unbind(1)
    # One more channel is 1 on the map and 0 around it, to tell how much of a sum is inside.
    maps = F.pad(maps.float(), (0, 0, 0, 0, 0, 1), value=1.0)
    weight = torch.cat([weight, (bias - OUTSIDE)[..., None]], dim=2).permute(2, 0, 1)[None]
    weight = F.interpolate(F.pad(weight, (1, 1, 1, 1)), scale_factor=factor, mode="bilinear")
    weight = weight[0, :, factor:-factor, factor:-factor].permute(1, 2, 0).contiguous()
    # An even number of cells around a cell of the map lie between cells.
    even = [1 - side % 2 for side in weight.shape[:2]]
    maps = F.avg_pool2d(maps, [1 + even[0], 1 + even[1]], stride=1, padding=even)
    maps = F.pad(maps, (1, 1, 1, 1))
    height, width = maps.shape[2:]
    down = _cells(rows * factor, weight.shape[0], height) + image[:, None] * height
    along = _cells(columns * factor, weight.shape[1], width)
    table = maps.permute(0, 2, 3, 1).flatten(0, 2)
    # Features are read in portions, and again in the backward pass: those of all windows are large.
    products = partial(checkpoint, _products, use_reentrant=False, preserve_rng_state=False)
    portioned = list(portions(0, len(places), cells=weight.numel())) or [slice(0, 0)]
    found = [products(table, down[own] * width, along[own], weight) for own in portioned]
    return OUTSIDE + torch.cat(found)


def _cells(centres: Tensor, side: int, cells: int) -> Tensor:
    """Indices, N×side, of the cells around centres; those beyond the map are on its margin."""
    steps = torch.arange(side, device=centres.device) - (side - 1) // 2
    return (centres[:, None] + steps + 1).clamp(0, cells - 1)


def _products(table: Tensor, down: Tensor, along: Tensor, weight: Tensor) -> Tensor:
    index = down[:, :, None] + along[:, None]
    return (F.embedding(index, table) * weight).sum(-1)
