"""Masks on a grid that covers the whole image, brought to pixels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

Window = tuple[int, int, int, int]

_CELLS = 2**21  # of the maps that are computed at a time; 100 at the sizes of COCO


def portions(start: int, stop: int, *, cells: int) -> Iterator[slice]:
    """The rows from ``start`` to ``stop`` in slices whose maps are computed at a time.

    Args:
        cells: of the map of a row.
    """
    most = max(_CELLS // cells, 1)
    return (slice(first, min(first + most, stop)) for first in range(start, stop, most))


def pixel_centres(pixels: int, frame: int) -> Tensor:
    """Where the centres of an image's rows (columns) lie in the network's input.

    Args:
        pixels: height (width) of the image.
        frame: the same of the image in the network's input, without padding.

    Returns:
        ``pixels`` coordinates. None is beyond the centres of the frame's own pixels: an image is
        made larger as bilinear resizing does it, not read from the padding.
    """
    centres = (torch.arange(pixels) + 0.5) * (frame / pixels)
    return centres.clamp(0.5, frame - 0.5)


def sample_grid(grid: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Read grids between their cells: bilinear, constant beyond the first and last cell.

    Args:
        grid: h×w, or N×h×w.
        rows, columns: H and W positions in cells, or N times so many; 0 is the first cell's centre.

    Returns:
        H×W, or N×H×W.
    """
    upper, lower, down = _neighbours(rows.to(grid), grid.shape[-2])
    left, right, along = _neighbours(columns.to(grid), grid.shape[-1])
    lines = torch.lerp(_picked(grid, upper, -2), _picked(grid, lower, -2), down[..., None])
    return torch.lerp(_picked(lines, left, -1), _picked(lines, right, -1), along[..., None, :])


def _picked(grid: Tensor, index: Tensor, dim: int) -> Tensor:
    """Rows or columns of a grid, or of each of N its own."""
    if index.ndim == 1:
        return grid.index_select(dim, index)
    return grid.take_along_dim(index[..., None] if dim == -2 else index[..., None, :], dim)


def windows_above(grids: Tensor, rows: Tensor, columns: Tensor, threshold: float) -> list[Window]:
    """The positions at which ``sample_grid`` can be above a threshold: those near a cell that is.

    Args:
        grids: N×h×w.
        rows, columns: as in ``sample_grid``, ascending.

    Returns:
        N times (top, left, bottom, right) in positions, ends exclusive; empty where no cell is
        above.
    """
    above = grids > threshold
    top, bottom = _near(above.any(2), rows)
    left, right = _near(above.any(1), columns)
    # All in one transfer from the device.
    return [tuple(window) for window in torch.stack([top, left, bottom, right], 1).tolist()]


def _neighbours(positions: Tensor, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    inside = positions.clamp(0, cells - 1)
    before = inside.floor().long()
    return before, (before + 1).clamp(max=cells - 1), inside - before


def _near(above: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """N×cells bool to the first position near a cell that is above, and the one after the last."""
    cells = above.shape[1]
    inside = positions.clamp(0, cells - 1)
    first = above.byte().argmax(1, keepdim=True)
    last = cells - 1 - above.flip(1).byte().argmax(1, keepdim=True)
    some = above.any(1)
    return (inside <= first - 1).sum(1) * some, (inside < last + 1).sum(1) * some
