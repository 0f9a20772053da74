from __future__ import annotations

from itertools import product

import pytest
import torch
import torchvision.ops
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from b2inst.ops.roi_align import assemble_regions, roi_align

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


def warped(rois: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    return roi_align(maps, rois, 3, 0.5, 1)


#: Images and corners of boxes: inside, across the frame, of less than a cell.
ROIS = torch.tensor(
    [[0, 2.2, 3.1, 14.3, 12.6], [1, -3.3, -2.7, 9.1, 22.4], [0, 5.21, 5.37, 6.13, 6.29]],
    dtype=torch.float64,
)


@pytest.mark.parametrize("channels", [1, 20])
def test_the_gradient_of_warping_flows_to_maps_and_boxes(channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, channels, 8, 9, dtype=torch.float64, generator=generator)
    image, corners = ROIS[:, :1], ROIS[:, 1:].clone().requires_grad_()

    def of_corners(corners: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        return warped(torch.cat([image, corners], dim=1), maps)

    assert gradcheck(of_corners, (corners, maps.requires_grad_()))
    (moved,) = torch.autograd.grad(of_corners(corners, maps).sum(), corners)
    assert (moved != 0).any(1).all()


def test_boxes_with_and_without_gradient_are_warped_alike() -> None:
    maps = torch.randn(2, 3, 8, 9)
    rois = ROIS.float()
    found = warped(rois.clone().requires_grad_(), maps)
    torch.testing.assert_close(found, warped(rois, maps))


def slow_assembly(
    maps: torch.Tensor, rois: torch.Tensor, size: int, scale: float, parts: int
) -> torch.Tensor:
    """Cell by cell, from B×h×w×(parts²·C) maps."""
    channels = maps.shape[3] // parts**2
    found = torch.zeros(len(rois), channels, size, size)
    for n, (image, x1, y1, x2, y2) in enumerate(rois.tolist()):
        for row, column in product(range(size), range(size)):
            part = row * parts // size * parts + column * parts // size
            own = maps[int(image), :, :, part * channels : (part + 1) * channels]
            y = (y1 + (row + 0.5) * (y2 - y1) / size) * scale - 0.5
            x = (x1 + (column + 0.5) * (x2 - x1) / size) * scale - 0.5
            if -1 <= y <= maps.shape[1] and -1 <= x <= maps.shape[2]:
                y = min(max(y, 0), maps.shape[1] - 1)
                x = min(max(x, 0), maps.shape[2] - 1)
                for v, u in product((int(y), int(y) + 1), (int(x), int(x) + 1)):
                    weight = max(1 - abs(y - v), 0) * max(1 - abs(x - u), 0)
                    if weight > 0:
                        found[n, :, row, column] += weight * own[v, u]
    return found


@pytest.mark.parametrize(("size", "parts"), [(21, 7), (6, 3), (4, 4), (5, 1)])
def test_regions_are_assembled_from_the_maps_of_their_parts(size: int, parts: int) -> None:
    maps = torch.randn(2, 8, 9, parts**2 * 3, generator=torch.Generator().manual_seed(0))
    rois = torch.cat([ROIS.float(), torch.tensor([[1.0, 17, 15, 18, 16], [0, 0, 0, 0, 0]])])
    found = assemble_regions(maps, rois, size, 0.5, parts)
    torch.testing.assert_close(found, slow_assembly(maps, rois, size, 0.5, parts))
    assert assemble_regions(maps, rois[:0], size, 0.5, parts).shape == (0, 3, size, size)


def test_one_cell_per_part_is_torchvisions() -> None:
    """Whose maps have the parts of a channel as neighbours."""
    maps = torch.randn(2, 8, 9, 49 * 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    theirs = maps.unflatten(3, (49, 3)).permute(0, 4, 3, 1, 2).flatten(1, 2)
    expected = torchvision.ops.ps_roi_align(theirs, ROIS.float(), 7, 0.5, 1)
    found = assemble_regions(maps, ROIS.float(), 7, 0.5, 7)
    torch.testing.assert_close(found, expected)
    gradient = torch.randn_like(found)
    gradients = (torch.autograd.grad(pooled, maps, gradient)[0] for pooled in (found, expected))
    torch.testing.assert_close(*gradients)
