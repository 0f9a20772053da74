from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from b2inst.ops.aligned_bilinear import aligned_bilinear


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
