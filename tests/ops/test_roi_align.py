from __future__ import annotations

import torch
import torchvision.ops
from hypothesis import given
from hypothesis import strategies as st

from b2inst.ops.roi_align import roi_align

corner = st.floats(-40, 90, width=32)
extent = st.sampled_from([0, 0.5, 1, 7.3, 40, 120])


@given(
    st.lists(st.tuples(st.integers(0, 1), corner, corner, extent, extent), max_size=9),
    st.sampled_from([(1, 1), (2, 7), (9, 5)]),
    st.integers(1, 4),
    st.integers(0, 3),
    st.booleans(),
)
def test_values_and_gradients_are_torchvisions(
    given_rois: list[tuple[float, ...]],
    shape: tuple[int, int],
    size: int,
    samples: int,
    channels_last: bool,
) -> None:
    """Also of boxes without extent, across the frame and beside it, and of none."""
    rois = torch.tensor([[b, x, y, x + w, y + h] for b, x, y, w, h in given_rois]).view(-1, 5)
    torch.manual_seed(len(rois))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    maps = torch.randn(2, 17, *shape).to(memory_format=layout).requires_grad_()
    got = roi_align(maps, rois, size, 0.125, samples)
    expected = torchvision.ops.roi_align(maps, rois, size, 0.125, samples, aligned=True)
    # Where a point is more than a cell beyond, to the last bit, either may be right.
    near = (got - expected).abs().amax((1, 2, 3)) > 1e-4
    assert near.float().mean() <= 0.2 if len(rois) > 4 else True
    given_gradient = torch.randn_like(expected) * ~near[:, None, None, None]
    torch.testing.assert_close(got[~near], expected[~near], atol=1e-4, rtol=1e-4)
    gradients = (torch.autograd.grad(pooled, maps, given_gradient)[0] for pooled in (got, expected))
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


def test_maps_keep_their_precision() -> None:
    maps = torch.randn(1, 20, 8, 8).bfloat16()
    rois = torch.tensor([[0.0, 4, 4, 40, 33]])
    got = roi_align(maps, rois, 7, 0.125, 2)
    assert got.dtype == torch.bfloat16
    expected = torchvision.ops.roi_align(maps.float(), rois, 7, 0.125, 2, aligned=True)
    torch.testing.assert_close(got.float(), expected, atol=0.02, rtol=0.02)
