from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from scipy.sparse import coo_matrix
from torch import Tensor

from b2inst.modules.refinement import BoundaryDiffusion, ConvRefinement, InTurn


def logits(seed: int = 0) -> Tensor:
    return torch.randn(2, 6, 7, generator=torch.Generator().manual_seed(seed))


def test_convolutions_change_nothing_at_first() -> None:
    torch.testing.assert_close(ConvRefinement()(logits(), None), logits(), rtol=0, atol=0)


def test_convolutions_are_those_of_scipy() -> None:
    refinement = ConvRefinement(channels=2)
    weights = dict(refinement.named_parameters())
    generator = torch.Generator().manual_seed(1)
    for parameter in weights.values():
        parameter.data = torch.randn(parameter.shape, generator=generator)

    def layer(maps: list[np.ndarray], i: int) -> list[np.ndarray]:
        kernels = weights[f"convs.{i}.weight"].detach().double().numpy()
        biases = weights[f"convs.{i}.bias"].detach().double().numpy()
        return [
            sum(ndimage.correlate(m, k, mode="constant") for m, k in zip(maps, kernel, strict=True))
            + bias
            for kernel, bias in zip(kernels, biases, strict=True)
        ]

    after = refinement(logits(), None).detach()
    for before, found in zip(logits().double().numpy(), after, strict=True):
        maps = [np.maximum(m, 0) for m in layer([before], 0)]
        maps = [np.maximum(m, 0) for m in layer(maps, 2)]
        np.testing.assert_allclose(found, before + layer(maps, 4)[0], rtol=1e-4, atol=1e-4)


def test_one_takes_what_the_other_has_made() -> None:
    diffusion, convs = BoundaryDiffusion(steps=3), ConvRefinement(channels=2)
    for parameter in convs.parameters():
        parameter.data += 0.1
    boundary = logits(2)
    both = InTurn([diffusion, convs])
    with torch.no_grad():
        after = both(logits(), boundary)
        torch.testing.assert_close(after, convs(diffusion(logits(), boundary), boundary))
        *earlier, last = both.states(logits(), boundary)
        torch.testing.assert_close(last, after)
        assert len(earlier) == 3  # the steps of the diffusion
        torch.testing.assert_close(earlier[-1], diffusion(logits(), boundary))


def random(shape: tuple[int, ...], seed: int, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_a_matrix(diffusion: BoundaryDiffusion, logits: Tensor, boundary: Tensor) -> np.ndarray:
    """∏ (I + rate_i · L) x, L the weighted graph Laplacian, pair by pair from the formula."""
    height, width = logits.shape
    b = boundary.sigmoid().double().numpy()
    rows, columns, values = [], [], []
    sharpness, rate = diffusion.sharpness.item(), diffusion.rate.item()
    for y in range(height):
        for x in range(width):
            for v, u in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if 0 <= v < height and 0 <= u < width:
                    g = math.exp(-sharpness * min(b[y, x], b[v, u]))
                    rows += [y * width + x] * 2
                    columns += [v * width + u, y * width + x]
                    values += [g, -g]
    laplacian = coo_matrix((values, (rows, columns)), shape=(height * width,) * 2).tocsr()
    state = logits.double().numpy().ravel()
    n = diffusion.steps
    for i in range(n):  # Grewenig et al., Eq. 9
        size = 1 / (2 * math.cos(math.pi * (2 * i + 1) / (4 * n + 2)) ** 2)
        state = state + size * rate * (laplacian @ state)
    return state.reshape(height, width)


@given(
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    steps=st.integers(1, 9),
    guided=st.booleans(),
    seed=st.integers(0, 99),
)
def test_it_is_a_product_of_graph_laplacians(
    height: int, width: int, steps: int, guided: bool, seed: int
) -> None:
    diffusion = BoundaryDiffusion(steps=steps, guided=guided)
    logits, boundary = random((2, height, width), seed), random((2, height, width), seed + 100)
    with torch.no_grad():
        after = diffusion(logits, boundary)
    for i in range(2):
        expected = by_a_matrix(diffusion, logits[i], boundary[i])
        np.testing.assert_allclose(after[i].numpy(), expected, atol=1e-4)


@given(steps=st.integers(1, 16), rate=st.floats(-9, 9), seed=st.integers(0, 99))
def test_the_sum_stays_and_the_variance_does_not_grow(steps: int, rate: float, seed: int) -> None:
    diffusion = BoundaryDiffusion(steps=steps)
    torch.nn.init.constant_(diffusion.raw_rate, rate)
    logits, boundary = random((3, 6, 8), seed), random((1, 6, 8), seed + 1)
    with torch.no_grad():
        after = diffusion(logits, boundary)
    torch.testing.assert_close(after.sum((1, 2)), logits.sum((1, 2)), atol=1e-2, rtol=1e-3)
    assert (after.var((1, 2)) <= logits.var((1, 2)) * (1 + 1e-3)).all()


@given(steps=st.integers(1, 16))
def test_the_steps_reach_as_far_as_a_third_of_their_square_of_equal_ones(steps: int) -> None:
    sizes = BoundaryDiffusion(steps=steps).sizes
    assert len(sizes) == steps
    assert sum(sizes) == pytest.approx((steps**2 + steps) / 3)
    assert sizes == sorted(sizes)


def test_a_boundary_marked_on_both_sides_keeps_two_regions_apart() -> None:
    boundary = torch.full((1, 8, 8), -20.0)
    boundary[:, :, 3:5] = 20.0  # the edge is between columns 3 and 4
    logits = torch.full((1, 8, 8), -1.0)
    logits[:, :, :4] = 1.0
    logits[:, 2, 1] = -5.0  # a hole, far from the boundary
    diffusion = BoundaryDiffusion(steps=12)
    torch.nn.init.constant_(diffusion.raw_sharpness, 30.0)
    with torch.no_grad():
        gated = diffusion(logits, boundary)
        plain = BoundaryDiffusion(steps=12, guided=False)(logits, boundary)
    assert (gated[:, :, :4] > 0).all()  # the hole is filled
    assert torch.allclose(gated[:, :, 4:], torch.tensor(-1.0), atol=1e-4)
    assert (plain[:, :, 3] - plain[:, :, 4]).max() < 0.5


def test_states_are_the_way_to_the_result() -> None:
    diffusion = BoundaryDiffusion(steps=5)
    logits, boundary = random((2, 4, 4), 0), random((2, 4, 4), 1)
    states = list(diffusion.states(logits, boundary))
    assert len(states) == 5
    assert states[-1].equal(diffusion(logits, boundary))


def test_gradients_are_those_of_finite_differences() -> None:
    diffusion = BoundaryDiffusion(steps=3)
    logits = random((1, 3, 4), 0).requires_grad_()
    boundary = random((1, 3, 4), 1).requires_grad_()
    inputs = (logits, boundary, diffusion.raw_rate, diffusion.raw_sharpness)
    weights = random((1, 3, 4), 2)
    value = (diffusion(logits, boundary) * weights).sum()
    gradients = torch.autograd.grad(value, inputs)
    for given_input, gradient in zip(inputs, gradients, strict=True):
        flat = given_input.data.view(-1)
        for i in range(flat.numel()):
            ends = []
            for sign in (1, -1):
                flat[i] += sign * 1e-2
                ends.append(float((diffusion(logits, boundary) * weights).sum()))
                flat[i] -= sign * 1e-2
            numeric = (ends[0] - ends[1]) / 2e-2
            assert numeric == pytest.approx(float(gradient.view(-1)[i]), abs=2e-2)


def test_half_precision_is_computed_in_single() -> None:
    diffusion = BoundaryDiffusion(steps=12)
    logits, boundary = random((2, 8, 8), 0, 100.0), random((2, 8, 8), 1, 100.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = diffusion(logits.bfloat16(), boundary.bfloat16())
    plain = diffusion(logits.bfloat16().float(), boundary.bfloat16().float())
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, plain)


def test_no_instances_and_too_few_or_many_steps() -> None:
    assert BoundaryDiffusion()(torch.zeros(0, 5, 5), torch.zeros(0, 5, 5)).shape == (0, 5, 5)
    for steps in (0, 17):
        with pytest.raises(ValueError, match=f"steps {steps}: 1 to 16"):
            BoundaryDiffusion(steps=steps)
