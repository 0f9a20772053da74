"""Masks on a grid that covers the whole image, brought to pixels."""

from __future__ import annotations

import torch
from torch import Tensor

Window = tuple[int, int, int, int]


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
    """Read a grid between its cells: bilinear, constant beyond the first and last cell.

    Args:
        grid: h×w.
        rows, columns: H and W positions in cells; 0 is the first cell's centre.

    Returns:
        H×W.
    """
    upper, lower, down = _neighbours(rows.to(grid), grid.shape[0])
    left, right, along = _neighbours(columns.to(grid), grid.shape[1])
    lines = torch.lerp(grid[upper], grid[lower], down[:, None])
    return torch.lerp(lines[:, left], lines[:, right], along)


def window_above(grid: Tensor, rows: Tensor, columns: Tensor, threshold: float) -> Window:
    """The positions at which ``sample_grid`` can be above a threshold: those near a cell that is.

    Args:
        grid, rows, columns: as in ``sample_grid``, the positions ascending.

    Returns:
        (top, left, bottom, right) in positions, ends exclusive; empty where no cell is above.
    """
    above = grid > threshold
    top, bottom = _near(above.any(1), rows)
    left, right = _near(above.any(0), columns)
    return top, left, bottom, right


def _neighbours(positions: Tensor, cells: int) -> tuple[Tensor, Tensor, Tensor]:
    inside = positions.clamp(0, cells - 1)
    before = inside.floor().long()
    return before, (before + 1).clamp(max=cells - 1), inside - before


def _near(above: Tensor, positions: Tensor) -> tuple[int, int]:
    cells = above.nonzero()[:, 0]
    if not len(cells):
        return 0, 0
    inside = positions.clamp(0, len(above) - 1)
    first, last = int(cells[0]), int(cells[-1])
    return int((inside <= first - 1).sum()), int((inside < last + 1).sum())
