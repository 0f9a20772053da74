from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from b2inst.modules.position_conv import PositionConv


@given(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7), st.integers(0, 12), st.integers(0))
def test_equals_the_dense_convolution(b: int, h: int, w: int, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed % 2**31)
    conv = PositionConv(5, 6)
    feature = torch.randn(b, 5, h, w, generator=generator)
    image, row, column = (torch.randint(end, (count,), generator=generator) for end in (b, h, w))
    got = conv.at(feature, image, row, column)
    assert got.shape == (count, 6)
    torch.testing.assert_close(got, conv(feature)[image, :, row, column], rtol=1e-4, atol=1e-5)


def test_gradients_equal_those_of_the_dense_convolution() -> None:
    conv = PositionConv(3, 4).double()
    feature = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    image, row, column = torch.tensor([[0, 1, 1, 0], [0, 4, 4, 2], [5, 0, 0, 3]])
    wanted = (feature, conv.weight, conv.bias)
    sparse = torch.autograd.grad(conv.at(feature, image, row, column).square().sum(), wanted)
    dense = torch.autograd.grad(conv(feature)[image, :, row, column].square().sum(), wanted)
    for one, other in zip(sparse, dense, strict=True):
        torch.testing.assert_close(one, other)
