"""RoIAlign for maps of many channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align as torchvision_roi_align

_MANY = 16  # channels from which it is faster


def roi_align(maps: Tensor, rois: Tensor, size: int, scale: float, samples: int) -> Tensor:
    """RoIAlign with aligned corners, as torchvision's up to rounding, but faster on CPUs.

    Arguments are torchvision's. Each bin is a weighted sum of cells over all channels, an embedding
    bag; torchvision computes the weights again for each channel.
    """
    if maps.device.type != "cpu" or maps.shape[1] < _MANY or not len(rois):
        return torchvision_roi_align(maps, rois, size, scale, samples, aligned=True)
    cells = maps.permute(0, 2, 3, 1).flatten(0, 2).float()
    corners = rois[:, 1:].float() * scale - 0.5
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


def _pool(
    cells: Tensor,
    shape: torch.Size,
    image: Tensor,
    corners: Tensor,
    size: int,
    samples: tuple[int, int],
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
    steps = (torch.arange(size * samples) + 0.5) / samples
    at = start[:, None] + (stop - start)[:, None] / size * steps
    known = (at >= -1) & (at <= cells)  # closer than a cell to the map, whose border they read
    at = at.clamp(0, cells - 1)
    before = at.floor()
    after = at - before
    numbers = torch.stack([before.long(), (before.long() + 1).clamp(max=cells - 1)], -1)
    weights = torch.stack([1 - after, after], -1) * known[..., None] / samples
    shape = (len(start), size, 2 * samples)
    return numbers.view(shape), weights.view(shape)
