from __future__ import annotations

import math
from itertools import product
from unittest.mock import patch

import pytest
import torch
from dense_masks import swap_align2nat
from torch import Tensor

from b2inst.ops.align2nat import natural_masks


def between(place: float) -> list[tuple[int, float]]:
    """The one or two whole numbers around a place, and their weights."""
    low = math.floor(place)
    pairs = [(low, 1 - (place - low)), (low + 1, place - low)]
    return [pair for pair in pairs if pair[1] > 0]


def slow_swap(aligned: Tensor, factor: int) -> Tensor:
    """Value by value, from cells of the map and of aligned masks; -6 beyond either."""
    batch, high, wide, height, width = aligned.shape
    shape = (batch, factor * high, factor * wide, -(-height // factor), -(-width // factor))
    values = []
    for n, v, u, y, x in product(*map(range, shape)):
        places = [(v + 0.5) / factor - 0.5, (u + 0.5) / factor - 0.5]
        places.append(y * factor + v - (factor * high - 1) / 2)
        places.append(x * factor + u - (factor * wide - 1) / 2)
        value = torch.zeros(())
        for near in product(*map(between, places)):
            index, weights = zip(*near, strict=True)
            inside = all(0 <= i < side for i, side in zip(index, aligned.shape[1:], strict=True))
            value = value + math.prod(weights) * (aligned[(n, *index)] if inside else -6)
        values.append(value)
    return torch.stack(values).view(shape)


def test_a_mask_is_read_from_the_cells_around_its_window() -> None:
    """Of an odd number of cells, the middle one is the window's."""
    aligned = torch.randn(2, 3, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    found = swap_align2nat(aligned, 1)
    assert found.shape == aligned.shape
    for v, u, y, x in product(*map(range, aligned.shape[1:])):
        row, column = y + v - 1, x + u - 2
        inside = 0 <= row < 4 and 0 <= column < 6
        expected = aligned[:, v, u, row, column] if inside else torch.full((2,), -6.0)
        torch.testing.assert_close(found[:, v, u, y, x], expected)


def test_an_even_number_of_cells_lies_between_those_of_the_map() -> None:
    aligned = torch.arange(12.0).view(1, 2, 2, 1, 3)
    found = swap_align2nat(aligned, 1)
    assert found[0, 0, 1, 0].tolist() == [(3 + 4 - 12) / 4, (4 + 5 - 12) / 4, (5 - 18) / 4]
    assert found[0, 1, 0, 0].tolist() == [(6 - 18) / 4, (6 + 7 - 12) / 4, (7 + 8 - 12) / 4]


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (3, 2), (1, 1)])
@pytest.mark.parametrize("size", [(5, 6), (1, 3)])
def test_swapped_masks_are_those_of_a_loop(
    factor: int, shape: tuple[int, int], size: tuple[int, int]
) -> None:
    aligned = torch.randn(1, *shape, *size, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(swap_align2nat(aligned, factor), slow_swap(aligned, factor))


def parts(factor: int) -> tuple[list[Tensor], Tensor]:
    """Maps, weights and biases, and windows: at corners, at a side, inside, one of them twice."""
    generator = torch.Generator().manual_seed(1)
    shapes = ((2, 4, 5, 7), (3, 2, 4), (3, 2))
    given = [torch.randn(shape, generator=generator) for shape in shapes]
    rows, columns = -(-5 // factor) - 1, -(-7 // factor) - 1
    places = [(1, 0, 0), (0, rows, columns), (0, rows, 0), (1, 0, columns // 2), (0, 0, 0)]
    places += [(1, rows // 2, columns // 2), (1, 0, 0)]
    return [tensor.requires_grad_() for tensor in given], torch.tensor(places)


def dense(maps: Tensor, weight: Tensor, bias: Tensor, factor: int, places: Tensor) -> Tensor:
    """Pick windows of all masks."""
    aligned = torch.einsum("nchw,vuc->nvuhw", maps, weight) + bias[:, :, None, None]
    image, row, column = places.T
    return slow_swap(aligned, factor)[image, :, :, row, column]


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("cells", [1, 10**6])
def test_some_windows_and_gradients_are_those_of_the_dense_form(factor: int, cells: int) -> None:
    """Also if they are computed one by one, as many large ones are."""
    given, places = parts(factor)
    with patch("b2inst.ops.frame_masks._CELLS", cells):
        found = natural_masks(*given, factor, places)
        expected = dense(*given, factor, places)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
        gradients = torch.autograd.grad(found, given, upstream)
    slow = torch.autograd.grad(expected, given, upstream)
    for one, other in zip(gradients, slow, strict=True):
        assert other.any()
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("factor", [1, 4])
def test_no_windows(factor: int) -> None:
    given, places = parts(factor)
    found = natural_masks(*given, factor, places[:0])
    assert found.shape == (0, 3 * factor, 2 * factor)
    for gradient in torch.autograd.grad(found.sum(), given):
        assert not gradient.any()
    with torch.no_grad():
        found = natural_masks(given[0][:0], *given[1:], factor, places[:0])
    assert found.shape == (0, 3 * factor, 2 * factor)


def test_masks_of_bfloat16_maps_are_float32() -> None:
    (maps, weight, bias), places = parts(2)
    rounded = maps.bfloat16()
    found = natural_masks(rounded, weight, bias, 2, places)
    torch.testing.assert_close(found, natural_masks(rounded.float(), weight, bias, 2, places))
