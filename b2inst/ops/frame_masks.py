"""Masks on a grid that covers the whole image, brought to pixels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

Window = tuple[int, int, int, int]

_CELLS = 2**21  # of the maps that are computed at a time; 100 at the sizes of COCO


def portions(count: int, cells: int) -> Iterator[slice]:
    """Instances to be computed together, one after the other, so that memory stays small.

    Args:
        count: of instances; of none there is one empty portion.
        cells: of each one's map.
    """
    most = max(_CELLS // cells, 1)
    return (slice(start, start + most) for start in range(0, max(count, 1), most))


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
    lines = torch.lerp(grid.index_select(0, upper), grid.index_select(0, lower), down[:, None])
    return torch.lerp(lines.index_select(1, left), lines.index_select(1, right), along)


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
