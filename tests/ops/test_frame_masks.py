from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from b2inst.ops.frame_masks import (
    aligned_bilinear,
    pixel_centres,
    portions,
    sample_grid,
    windows_above,
)

sides = st.integers(1, 12)
positions = st.lists(st.floats(-3, 15, width=32), max_size=6).map(sorted)


@given(sides, sides, positions, positions, st.integers(0, 99))
def test_sampling_is_bilinear_and_constant_beyond_the_border(
    height: int, width: int, rows: list[float], columns: list[float], seed: int
) -> None:
    grid = np.random.default_rng(seed).random((height, width))
    got = sample_grid(torch.from_numpy(grid), torch.tensor(rows), torch.tensor(columns))
    places = np.meshgrid(np.float32(rows), np.float32(columns), indexing="ij")
    expected = ndimage.map_coordinates(grid, places, order=1, mode="nearest")
    np.testing.assert_allclose(got, expected.reshape(len(rows), len(columns)), atol=1e-5)


@given(sides, sides, positions, positions, st.integers(0, 99))
def test_nothing_outside_the_window_is_above(
    height: int, width: int, rows: list[float], columns: list[float], seed: int
) -> None:
    grids = torch.from_numpy(np.random.default_rng(seed).random((3, height, width)) ** 4)
    ys, xs = torch.tensor(rows), torch.tensor(columns)
    windows = windows_above(grids, ys, xs, 0.5)
    assert len(windows) == 3
    for grid, (top, left, bottom, right) in zip(grids, windows, strict=True):
        soft = sample_grid(grid, ys, xs)
        soft[top:bottom, left:right] = 0
        assert not (soft > 0.5).any()


def test_the_window_is_no_larger_than_a_cell_around() -> None:
    grid = torch.zeros(8, 8)
    grid[3, 4] = 1
    cells = torch.arange(0, 8, 0.5)
    windows = windows_above(torch.stack([grid, grid * 0.5]), cells, cells, 0.5)
    # Cells 2.5 to 3.5, 3.5 to 4.5; and the first cell, where none is above.
    assert windows == [(5, 7, 8, 10), (0, 0, 2, 2)]


@given(st.integers(1, 40), st.integers(1, 40))
def test_pixel_centres_are_those_of_bilinear_resizing(pixels: int, frame: int) -> None:
    """A frame whose pixels hold their own centres, resized."""
    ramp = (torch.arange(frame) + 0.5)[None, None]
    expected = F.interpolate(ramp, pixels, mode="linear", align_corners=False)[0, 0]
    torch.testing.assert_close(pixel_centres(pixels, frame), expected)


def test_maps_are_computed_in_portions_of_two_million_cells() -> None:
    assert list(portions(0, 100, cells=20_000)) == [slice(0, 100)]
    assert list(portions(3, 10, cells=2**19)) == [slice(3, 7), slice(7, 10)]
    assert list(portions(0, 2, cells=2**30)) == [slice(0, 1), slice(1, 2)]
    assert list(portions(5, 5, cells=1)) == []


def along_one_axis(values: np.ndarray, factor: int) -> np.ndarray:
    """The published rule, output cell by output cell, along the last axis."""
    last = values.shape[-1] - 1
    cells = []
    for i in range(factor * values.shape[-1]):
        source = max(i - factor // 2, 0) / factor
        low = int(source)
        weight = source - low
        cells.append((1 - weight) * values[..., low] + weight * values[..., min(low + 1, last)])
    return np.stack(cells, axis=-1)


@settings(max_examples=60)
@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 8), st.integers(1, 3), st.integers(0, 99)
)
def test_is_the_published_rule_on_both_axes(
    height: int, width: int, factor: int, channels: int, seed: int
) -> None:
    maps = np.random.default_rng(seed).normal(size=(2, channels, height, width))
    rows = along_one_axis(maps.swapaxes(2, 3), factor).swapaxes(2, 3)
    expected = along_one_axis(rows, factor)
    got = aligned_bilinear(torch.from_numpy(maps), factor)
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_twofold_by_hand() -> None:
    got = aligned_bilinear(torch.tensor([[[[1.0, 3, 7]]]]), 2)
    assert got[0, 0].tolist() == [[1, 1, 2, 3, 5, 7]] * 2


def test_every_cell_of_the_input_is_one_of_the_output() -> None:
    maps = torch.randn(1, 1, 5, 6, dtype=torch.float64)
    for factor in (1, 2, 3, 4, 8):
        found = aligned_bilinear(maps, factor)[..., factor // 2 :: factor, factor // 2 :: factor]
        torch.testing.assert_close(found, maps)


def test_no_maps() -> None:
    assert aligned_bilinear(torch.zeros(0, 1, 4, 5), 4).shape == (0, 1, 16, 20)


def test_gradients_are_those_of_a_linear_map() -> None:
    maps = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: aligned_bilinear(m, 3), maps)


@pytest.mark.parametrize("factor", [2, 4])
def test_half_precision_keeps_its_type(factor: int) -> None:
    got = aligned_bilinear(torch.ones(1, 1, 2, 2, dtype=torch.bfloat16), factor)
    assert got.dtype == torch.bfloat16
    assert (got == 1).all()
