"""Structured 4D tensors of masks: a V×U mask at every cell of an H×W map (TensorMask §3, §4).

In the natural representation, entry (v, u, y, x) is cell (v, u) of the mask in the window around
(y, x). In the aligned representation, it is the value at (y, x) of the mask that has this place as
its cell (v, u): all values at a place are predicted from the features of this place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from b2inst.ops.frame_masks import portions

#: Logit of what is beyond the map, or beyond the masks.
OUTSIDE = -6.0


def align2nat(aligned: Tensor) -> Tensor:
    """Convert aligned to natural masks, both B×V×U×H×W; a cell of a mask is a cell of the map."""
    return swap_align2nat(aligned, 1)


def swap_align2nat(aligned: Tensor, factor: int) -> Tensor:
    """Convert aligned to natural masks that are finer, in windows that are further apart.

    In the aligned tensor, a cell of a mask has the size of λ×λ cells of the map. In the natural
    one it is the other way round: masks are upsampled, and every λ-th window is kept. All
    interpolation is linear.

    Args:
        aligned: B×V×U×H×W logits.
        factor: λ.

    Returns:
        B×λV×λU×⌈H/λ⌉×⌈W/λ⌉ float32.
    """
    batch, *_, height, width = aligned.shape
    counts = (batch, -(-height // factor), -(-width // factor))
    places = torch.cartesian_prod(*(torch.arange(n, device=aligned.device) for n in counts))
    masks = natural_masks(aligned, factor, *places.unbind(1))
    return masks.unflatten(0, counts).permute(0, 3, 4, 1, 2)


def natural_masks(
    aligned: Tensor, factor: int, image: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    """Compute ``swap_align2nat`` in some windows only.

    Args:
        aligned: B×V×U×H×W logits.
        factor: λ.
        image: N int64, index in the batch.
        rows: N int64, in 0 … ⌈H/λ⌉ - 1.
        columns: N int64, in 0 … ⌈W/λ⌉ - 1.

    Returns:
        N×λV×λU float32.
    """
    down = _taps(rows, factor, aligned.shape[1], aligned.shape[3])
    along = _taps(columns, factor, aligned.shape[2], aligned.shape[4])
    cells = down[0].numel() * along[0].numel()
    chunks = list(portions(0, len(image), cells=cells)) or [slice(0, 0)]
    return torch.cat([_summed(aligned, image[own], down, along, own) for own in chunks])


#: Of S aligned cells: index in the mask (S×λV) and in the map (S×N×λV), and weight (S×N×λV).
_Taps = tuple[Tensor, Tensor, Tensor]


def _taps(windows: Tensor, factor: int, size: int, cells: int) -> _Taps:
    """Find the aligned cells, along one side, that the cells of natural masks are the sum of."""
    steps = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], device=windows.device)[:, :, None]
    natural = torch.arange(factor * size, device=windows.device)
    in_mask, in_map = (natural + 0.5) / factor - 0.5, natural - (factor * size - 1) / 2
    mask, offset = in_mask.floor() + steps[:, 0], in_map.floor() + steps[:, 1]
    weight = (1 - (mask - in_mask).abs()) * (1 - (offset - in_map).abs())
    used = weight.any(1)
    mask, offset, weight = mask[used].long(), offset[used].long(), weight[used]
    place = (windows * factor)[:, None] + offset[:, None]
    inside = (place >= 0) & (place < cells) & ((mask >= 0) & (mask < size))[:, None]
    return mask.clamp(0, size - 1), place.clamp(0, cells - 1), weight[:, None] * inside


def _summed(aligned: Tensor, image: Tensor, down: _Taps, along: _Taps, own: slice) -> Tensor:
    """N×λV×λU weighted sums of aligned cells, for the windows of a slice."""
    v, y, below = down[0], down[1][:, own], down[2][:, own]
    u, x, right = along[0], along[1][:, own], along[2][:, own]
    values = aligned[
        image[:, None, None],
        v[:, None, None, :, None],
        u[:, None, None],
        y[:, None, :, :, None],
        x[:, :, None],
    ]
    inner = below[:, None, :, :, None] * (right[:, :, None] * values.float())
    inside = below.sum(0)[:, :, None] * right.sum(0)[:, None]
    return inner.sum((0, 1)) + OUTSIDE * (1 - inside)
