from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from b2inst.modules.point_rend import (
    least_certain,
    map_points,
    place_points,
    points_of_cells,
    sample_mask_points,
    uniform_points,
)


def interpolated(values: Tensor, x: float, y: float) -> float:
    """The value at x, y of an h×w map with its cells' centres at halves, by the definition."""
    total = 0.0
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            near = max(0.0, 1 - abs(x - column - 0.5)) * max(0.0, 1 - abs(y - row - 0.5))
            total += near * float(values[row, column])
    return total


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_maps_are_interpolated_with_zeros_around_them(generator: torch.Generator) -> None:
    maps = torch.randn(2, 3, 4, 6, generator=generator)
    points = torch.rand(2, 7, 2, generator=generator) * 1.4 - 0.2
    found = map_points(maps, points)
    assert found.shape == (2, 7, 3)
    for n, p, c in ((n, p, c) for n in range(2) for p in range(7) for c in range(3)):
        x, y = (points[n, p] * torch.tensor([6, 4])).tolist()
        assert found[n, p, c].item() == pytest.approx(interpolated(maps[n, c], x, y), abs=1e-5)


def test_masks_are_sampled_as_maps_are(generator: torch.Generator) -> None:
    masks = torch.randint(2, (3, 5, 8), generator=generator, dtype=torch.uint8)
    index = torch.tensor([2, 0, 2, 1])
    points = torch.rand(4, 50, 2, generator=generator) * torch.tensor([12, 9]) - 2
    points[0, :4] = torch.tensor([[0, 0], [8, 5], [-0.5, -0.5], [7.5, 4.5]])
    found = sample_mask_points(masks, index, points)
    for n, k in enumerate(index.tolist()):
        expected = [interpolated(masks[k], *xy) for xy in points[n].tolist()]
        assert found[n].tolist() == pytest.approx(expected, abs=1e-5)


def test_no_points_and_no_masks() -> None:
    assert map_points(torch.zeros(1, 3, 4, 4), torch.zeros(1, 0, 2)).shape == (1, 0, 3)
    assert map_points(torch.zeros(0, 3, 4, 4), torch.zeros(0, 5, 2)).shape == (0, 5, 3)
    none = sample_mask_points(
        torch.zeros(0, 4, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 5, 2)
    )
    assert none.shape == (0, 5)


def test_cells_are_numbered_row_by_row_and_placed_in_boxes() -> None:
    centres = points_of_cells(torch.tensor([0, 3, 4, 15]), 4)
    assert centres.tolist() == [[0.125, 0.125], [0.875, 0.125], [0.125, 0.375], [0.875, 0.875]]
    boxes = torch.tensor([[10.0, 20.0, 18.0, 24.0], [-4.0, 0.0, 0.0, 0.0]])
    placed = place_points(centres.expand(2, -1, -1), boxes)
    assert placed[0].tolist() == [[11, 20.5], [17, 20.5], [11, 21.5], [17, 23.5]]
    assert placed[1, :, 1].tolist() == [0, 0, 0, 0]


def test_regular_points_of_a_map_are_its_pixels_and_upsampling(
    generator: torch.Generator,
) -> None:
    maps = torch.randn(1, 2, 8, 8, generator=generator)
    cells = points_of_cells(torch.arange(64), 8)[None]
    torch.testing.assert_close(map_points(maps, cells)[0].T.unflatten(1, (8, 8)), maps[0])
    cells = points_of_cells(torch.arange(256), 16)[None]
    inner = map_points(maps, cells)[0].T.unflatten(1, (16, 16))[:, 1:-1, 1:-1]
    doubled = F.interpolate(maps, scale_factor=2, mode="bilinear")[0, :, 1:-1, 1:-1]
    torch.testing.assert_close(inner, doubled)


def test_the_least_certain_are_those_nearest_to_zero() -> None:
    logits = torch.tensor([[5.0, -0.1, 0.3, -2.0], [math.inf, 1.0, -1.5, 0.0]])
    assert least_certain(logits, 2).tolist() == [[1, 2], [3, 1]]


def test_random_points_fill_the_square() -> None:
    torch.manual_seed(0)
    points = uniform_points(20, 500, torch.device("cpu"))
    assert points.shape == (20, 500, 2)
    assert 0 <= points.min() < 0.001
    assert 0.999 < points.max() < 1
    assert points.mean((0, 1)).tolist() == pytest.approx([0.5, 0.5], abs=0.02)
