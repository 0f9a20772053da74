"""Masks on a grid over the whole image, resampled to pixels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import masks_to_boxes

Window = tuple[int, int, int, int]

_CELLS = 2**21  # cells that are computed at once; 100 maps at the sizes of COCO


def portions(start: int, stop: int, *, cells: int) -> Iterator[slice]:
    """Split rows into slices whose maps, of some cells each, are computed at once."""
    most = max(_CELLS // cells, 1)
    return (slice(first, min(first + most, stop)) for first in range(start, stop, most))


def aligned_bilinear(maps: Tensor, factor: int) -> Tensor:
    """Upsample N×C×h×w maps by a whole factor as CondInst does.

    Cell ``i`` becomes cell ``factor·i + factor//2``; linear between these, constant beyond.
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


def pixel_centres(pixels: int, frame: int) -> Tensor:
    """Map centres of an image's rows (or columns) to its frame in the network's input, clamped."""
    centres = (torch.arange(pixels).float() + 0.5) * (frame / pixels)
    return centres.clamp(0.5, frame - 0.5)


def sample_grid(grid: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Sample h×w or N×h×w grids bilinearly; constant beyond the first and last cell.

    ``rows`` (H or N×H) and ``columns`` (W or N×W) are positions in cells; 0 is the centre of the
    first cell. Returns H×W or N×H×W.
    """
    upper, lower, down = _neighbours(rows.to(grid), grid.shape[-2])
    left, right, along = _neighbours(columns.to(grid), grid.shape[-1])
    lines = torch.lerp(_picked(grid, upper, -2), _picked(grid, lower, -2), down[..., None])
    return torch.lerp(_picked(lines, left, -1), _picked(lines, right, -1), along[..., None, :])


def _neighbours(positions: Tensor, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    inside = positions.clamp(0, cells - 1)
    before = inside.floor().long()
    return before, (before + 1).clamp(max=cells - 1), inside - before


def _picked(grid: Tensor, index: Tensor, dim: int) -> Tensor:
    """Select rows or columns of a grid, or different ones of each of N grids."""
    if index.ndim == 1:
        return grid.index_select(dim, index)
    return grid.take_along_dim(index[..., None] if dim == -2 else index[..., None, :], dim)


def windows_above(grids: Tensor, rows: Tensor, columns: Tensor, threshold: float) -> list[Window]:
    """Find where ``sample_grid`` of N×h×w can exceed a threshold, at ascending positions.

    Each window is (top, left, bottom, right) in positions, ends exclusive.
    """
    left, top, right, bottom = masks_to_boxes(grids > threshold)[:, :, None].unbind(1)
    rows, columns = rows.clamp(0, grids.shape[1] - 1), columns.clamp(0, grids.shape[2] - 1)
    before = (rows <= top - 1, columns <= left - 1, rows < bottom + 1, columns < right + 1)
    # A single transfer from the device.
    return [tuple(window) for window in torch.stack([n.sum(1) for n in before], 1).tolist()]
