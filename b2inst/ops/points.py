"""Values of maps, and of masks, at points between their cells."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def uniform_points(boxes: int, points: int, device: torch.device) -> Tensor:
    """Random points, N×P×2, x and y in [0, 1)."""
    return torch.rand(boxes, points, 2, device=device)


def points_of_cells(cells: Tensor, size: int) -> Tensor:
    """Centres of the cells of a size×size grid, numbered row by row: …×2, x and y in [0, 1]."""
    return (torch.stack([cells % size, cells // size], dim=-1) + 0.5) / size


def place_points(points: Tensor, boxes: Tensor) -> Tensor:
    """Pixels x y of points N×P×2 that are given as fractions of N boxes: N×P×2."""
    return boxes[:, None, :2] + points * (boxes[:, None, 2:] - boxes[:, None, :2])


def least_certain(logits: Tensor, count: int) -> Tensor:
    """Indices N×count of the logits (N×M) nearest to 0, these first."""
    return logits.abs().topk(count, largest=False).indices


def map_points(maps: Tensor, points: Tensor) -> Tensor:
    """Interpolate maps (N×C×h×w), zero outside, at points (N×P×2, fractions of the map): N×P×C."""
    grid = (2 * points - 1)[:, None]
    return F.grid_sample(maps.float(), grid, align_corners=False)[:, :, 0].mT


def sample_mask_points(masks: Tensor, index: Tensor, points: Tensor) -> Tensor:
    """Interpolate masks (M×H×W), zero outside, at points N×P×2 in pixels of mask ``index`` (N)."""
    height, width = masks.shape[1:]
    x, y = (points - 0.5).unbind(-1)
    left, top = x.floor(), y.floor()
    found = torch.zeros_like(x)
    for column in (left, left + 1):
        for row in (top, top + 1):
            weight = (1 - (x - column).abs()) * (1 - (y - row).abs())
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            at = row.clamp(0, height - 1).long(), column.clamp(0, width - 1).long()
            found += torch.where(inside, weight * masks[index[:, None], *at], 0)
    return found
