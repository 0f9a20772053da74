"""RoIAlign for maps of many channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align as torchvision_roi_align

_MANY = 16  # channels from which it is faster


def roi_align(maps: Tensor, rois: Tensor, size: int, scale: float, samples: int) -> Tensor:
    """RoIAlign with aligned corners, as torchvision's up to rounding, but faster on CPUs.

    Each bin is an embedding bag, whose weights torchvision computes again for each channel. Unlike
    there, gradients flow to boxes that require them: with one sample per bin this is RoI warping
    (MNC §3.2).
    """
    faster = maps.device.type == "cpu" and maps.shape[1] >= _MANY
    if not len(rois) or not (faster or rois.requires_grad):
        return torchvision_roi_align(maps, rois, size, scale, samples, aligned=True)
    cells = maps.permute(0, 2, 3, 1).flatten(0, 2).to(rois.dtype)
    corners = rois[:, 1:] * scale - 0.5
    if samples:
        pooled = _pool(cells, maps.shape, rois[:, 0], corners, size, (samples, samples))
    else:
        spans = ((corners[:, [3, 2]] - corners[:, [1, 0]]) / size).ceil().clamp(min=0).int()
        kinds, kind = spans.unique(dim=0, return_inverse=True)
        groups = [(kind == k).nonzero()[:, 0] for k in range(len(kinds))]
        parts = [
            _pool(cells, maps.shape, rois[rows, 0], corners[rows], size, (down, along))
            for (down, along), rows in zip(kinds.tolist(), groups, strict=True)
        ]
        pooled = torch.cat(parts)[torch.cat(groups).argsort()]
    return pooled.to(maps.dtype)


def assemble_regions(maps: Tensor, rois: Tensor, size: int, scale: float, parts: int) -> Tensor:
    """Assemble maps of boxes from score maps of their parts (FCIS §2.1).

    Each cell is read, linearly interpolated at its centre, from the score maps of its part, as by
    torchvision's ``ps_roi_align``, which has one cell per part and is slower on CPUs.

    Args:
        maps: B×h×w×(parts²·C), all channels of the first part first; parts are counted by rows.
        rois: N×5, index of the image in the batch and x1 y1 x2 y2.
        size: Cells along a side, a multiple of ``parts``.
        scale: Cells of the score maps per pixel of the boxes.
        parts: Parts along a side.

    Returns:
        N×C×size×size.
    """
    cells = maps.unflatten(3, (parts**2, -1))
    shape = cells[:, :, :, 0].permute(0, 3, 1, 2).shape
    corners = rois[:, 1:] * scale - 0.5
    cells = cells.flatten(0, 3).to(rois.dtype)
    return _pool(cells, shape, rois[:, 0], corners, size, (1, 1), parts)


def _pool(
    cells: Tensor,
    shape: torch.Size,
    image: Tensor,
    corners: Tensor,
    size: int,
    samples: tuple[int, int],
    parts: int = 1,
) -> Tensor:
    """N×C×R×R of all maps' cells, with so many samples down and along each bin."""
    if 0 in samples:  # boxes without extent: 0, with a gradient
        return cells[:0].sum() + cells.new_zeros(len(image), shape[1], size, size)
    height, width = shape[-2:]
    x1, y1, x2, y2 = corners.unbind(1)
    rows, down = _samples(y1, y2, size, samples[0], height)
    columns, along = _samples(x1, x2, size, samples[1], width)
    first = image.long() * (height * width)
    index = first[:, None, None, None, None] + rows[:, :, None, :, None] * width
    index = index + columns[:, None, :, None]  # N×R×R×2S×2S
    if parts > 1:
        part = torch.arange(size, device=image.device) // (size // parts)
        index = index * parts**2 + (part[:, None] * parts + part)[..., None, None]
    weights = down[:, :, None, :, None] * along[:, None, :, None]
    pooled = F.embedding_bag(
        index.flatten(3).flatten(0, 2),
        cells,
        per_sample_weights=weights.flatten(3).flatten(0, 2),
        mode="sum",
    )
    return pooled.view(-1, size, size, shape[1]).permute(0, 3, 1, 2)


def _samples(
    start: Tensor, stop: Tensor, size: int, samples: int, cells: int
) -> tuple[Tensor, Tensor]:
    """Indices and weights of the two cells at S points in R bins of N boxes, N×R×2S each."""
    steps = (torch.arange(size * samples, device=start.device).to(start) + 0.5) / samples
    at = start[:, None] + (stop - start)[:, None] / size * steps
    known = (at >= -1) & (at <= cells)  # closer than a cell to the map, whose border they read
    at = at.clamp(0, cells - 1)
    before = at.floor()
    after = at - before
    numbers = torch.stack([before.long(), (before.long() + 1).clamp(max=cells - 1)], -1)
    weights = torch.stack([1 - after, after], -1) * known[..., None] / samples
    shape = (len(start), size, 2 * samples)
    return numbers.view(shape), weights.view(shape)
