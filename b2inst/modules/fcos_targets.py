"""Assignment of the positions of an FCOS head to objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from b2inst.structures import Targets


@dataclass
class FCOSTargets:
    """Targets at the S positions of all levels, in order and row by row."""

    labels: Tensor  #: B×S int64; num_classes means background
    target_index: Tensor  #: B×S int64, row in the image's own targets; 0 where background
    distances: Tensor  #: B×S×4, left top right bottom in units of the level's stride
    centerness: Tensor  #: B×S in [0, 1]


def locations(shape: tuple[int, int], stride: int, device: torch.device) -> Tensor:
    """Centres (x, y) of a level's cells in input pixels, row by row: hw×2."""
    ys, xs = (torch.arange(side, device=device) * stride + stride // 2 for side in shape)
    return torch.cartesian_prod(ys, xs).flip(1).float()


def centerness(distances: Tensor) -> Tensor:
    """FCOS Eq. 3: sqrt of the two ratios of opposite distances; …×4 to … in [0, 1]."""
    horizontal, vertical = distances[..., 0::2], distances[..., 1::2]
    ratios = horizontal.amin(-1) / horizontal.amax(-1) * (vertical.amin(-1) / vertical.amax(-1))
    return ratios.clamp(min=0).sqrt()


def box_centres(targets: Targets) -> Tensor:
    """Centres (x, y) of the objects' boxes: N×2."""
    return (targets.boxes[:, :2] + targets.boxes[:, 2:]) / 2


def mask_centroids(targets: Targets) -> Tensor:
    """Means (x, y) of the pixel indices of the objects' masks, (0, 0) of empty ones: N×2."""
    counts = [targets.masks.sum(dim) for dim in (1, 2)]  # by column, by row
    # In whole numbers: mixed precision would round a matrix product, or let it overflow.
    moments = [(n * torch.arange(n.shape[1], device=n.device)).sum(1) for n in counts]
    return torch.stack(moments, dim=1) / counts[0].sum(1, keepdim=True).clamp(min=1)


def size_ranges(strides: Sequence[int], object_size: int) -> tuple[tuple[float, float], ...]:
    """Sizes of interest of levels in pixels, up to ``object_size`` strides; of the last, any."""
    bounds = [float(object_size * stride) for stride in strides[:-1]]
    return tuple(zip((-1.0, *bounds), (*bounds, 1e8), strict=True))


def assign(
    points: Sequence[Tensor],
    strides: Sequence[int],
    sizes_of_interest: Sequence[tuple[float, float]],
    targets: Sequence[Targets],
    *,
    num_classes: int,
    radius: float,
    centres: Callable[[Targets], Tensor] = box_centres,
) -> FCOSTargets:
    """FCOS assignment of the points of each level, hw×2, with centre sampling.

    A position is positive for a box if it lies strictly inside the box and inside the square of
    ``radius`` strides around the object's centre, and the largest of its four distances is in the
    level's size of interest, ends included. Of several boxes the smallest wins, of equal ones the
    first. ``centres`` gives the centres of an image's objects, N×2.
    """
    xy = torch.cat(list(points))
    counts = torch.tensor([len(p) for p in points], device=xy.device)
    stride = torch.tensor(strides, device=xy.device).repeat_interleave(counts)[:, None].float()
    interest = torch.tensor(sizes_of_interest, device=xy.device).repeat_interleave(counts, dim=0)

    per_image = []
    for target in targets:
        if not len(target):
            zeros = xy.new_zeros(len(xy))
            background = torch.full_like(zeros, num_classes, dtype=torch.int64)
            per_image.append((background, zeros.long(), xy.new_zeros(len(xy), 4), zeros))
            continue
        first, last = target.boxes.split(2, dim=1)
        distances = torch.cat([xy[:, None] - first, last - xy[:, None]], dim=2)  # S×N×4
        largest = distances.amax(2)
        near = ((xy[:, None] - centres(target)).abs() < radius * stride[..., None]).all(2)
        fits = (largest >= interest[:, :1]) & (largest <= interest[:, 1:])
        positive = (distances.amin(2) > 0) & near & fits
        smallest, index = torch.where(positive, (last - first).prod(1), torch.inf).min(1)
        labels = torch.where(smallest.isinf(), num_classes, target.labels[index])
        chosen = distances[torch.arange(len(xy), device=xy.device), index]
        score = torch.where(smallest.isinf(), 0.0, centerness(chosen))
        per_image.append((labels, index, chosen / stride, score))
    return FCOSTargets(*(torch.stack(column) for column in zip(*per_image, strict=True)))
