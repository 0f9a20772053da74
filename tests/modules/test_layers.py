from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from b2inst.modules.layers import PositionConv, RoIPooler


def dense(conv: PositionConv, levels: list[torch.Tensor]) -> torch.Tensor:
    """The whole convolution of all levels: B×S×D."""
    return torch.cat([conv(level).flatten(2) for level in levels], 2).transpose(1, 2)


sides = st.tuples(st.integers(1, 7), st.integers(1, 7))


@given(st.integers(1, 3), st.lists(sides, min_size=1, max_size=3), st.integers(0, 12))
def test_equals_the_dense_convolution(b: int, shapes: list[tuple[int, int]], count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    conv = PositionConv(5, 6, 3, padding=1)
    levels = [torch.randn(b, 5, *shape, generator=generator) for shape in shapes]
    expected = dense(conv, levels)
    image, position = (torch.randint(n, (count,), generator=generator) for n in expected.shape[:2])
    got = conv.at(levels, image, position)
    assert got.shape == (count, 6)
    torch.testing.assert_close(got, expected[image, position], rtol=1e-4, atol=1e-5)


def test_what_lies_outside_a_level_is_nothing_whatever_the_maps_hold() -> None:
    """Not even times a number that is none."""
    conv = PositionConv(1, 2, 3, padding=1)
    levels = [torch.full((1, 1, 2, 2), torch.nan), torch.ones(1, 1, 1, 1)]
    got = conv.at(levels, torch.tensor([0]), torch.tensor([4]))
    torch.testing.assert_close(got, dense(conv, levels)[0, 4:])


def test_gradients_equal_those_of_the_dense_convolution() -> None:
    conv = PositionConv(3, 4, 3, padding=1).double()
    levels = [torch.randn(2, 3, *s).double().requires_grad_() for s in ((5, 6), (2, 3))]
    image, position = torch.tensor([[0, 1, 1, 0, 1], [5, 24, 24, 15, 35]])
    wanted = (*levels, conv.weight, conv.bias)
    sparse = torch.autograd.grad(conv.at(levels, image, position).square().sum(), wanted)
    whole = torch.autograd.grad(dense(conv, levels)[image, position].square().sum(), wanted)
    for one, other in zip(sparse, whole, strict=True):
        torch.testing.assert_close(one, other)


BOXES = [
    torch.tensor([[100.0, 130, 212, 242]]),
    torch.tensor([[3.0, 5, 40, 33], [50, 60, 590, 640]]),
]


@pytest.mark.parametrize("samples", [1, 2])
def test_bins_hold_the_mean_place_of_their_pixels(samples: int) -> None:
    """Of features that hold their cells' centres, x and y; images and boxes in order."""
    ramps = {}
    for stride in (4, 8, 16, 32):
        centres = stride * (torch.arange(640 // stride) + 0.5)
        x = centres.expand(len(centres), -1)
        image = torch.stack([x, x.T])
        ramps[stride] = torch.stack([image, image + 1000])
    pooled = RoIPooler(strides=(4, 8, 16, 32), size=7, samples=samples)(ramps, BOXES)
    assert pooled.shape == (3, 2, 7, 7)
    for row, (image, box) in zip(
        pooled, ((0, BOXES[0][0]), (1, BOXES[1][0]), (1, BOXES[1][1])), strict=True
    ):
        bins = (torch.arange(7) + 0.5) / 7
        x = 1000 * image + box[0] + bins * (box[2] - box[0])
        y = 1000 * image + box[1] + bins * (box[3] - box[1])
        torch.testing.assert_close(row[0, :, :6], x.expand(7, 7)[:, :6])
        torch.testing.assert_close(row[1, :6], y[:, None].expand(7, 7)[:6])


def test_no_boxes() -> None:
    features = {8: torch.rand(2, 5, 10, 10)}
    pooled = RoIPooler(strides=(8,), size=14)(features, [torch.zeros(0, 4)] * 2)
    assert pooled.shape == (0, 5, 14, 14)
