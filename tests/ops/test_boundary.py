from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from b2inst.ops.boundary import boundary_target, laplacian_boundary

bitmaps = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=12))


@given(bitmaps, st.sampled_from([("replicate", 1), ("constant", 0)]))
def test_is_the_mask_without_its_erosion(masks: np.ndarray, frame: tuple[str, int]) -> None:
    name, beyond = frame
    expected = [m & ~ndimage.binary_erosion(m, np.ones((3, 3)), border_value=beyond) for m in masks]
    got = laplacian_boundary(torch.from_numpy(masks), frame=name)
    assert got.dtype == torch.bool
    assert got.numpy().tolist() == np.stack(expected).tolist()


@given(bitmaps, st.sampled_from([("replicate", "nearest"), ("constant", "constant")]))
def test_is_the_laplacian_of_scipy_above_zero(masks: np.ndarray, frame: tuple[str, str]) -> None:
    name, mode = frame
    kernel = np.array([[[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]])
    response = ndimage.convolve(masks.astype(int), kernel, mode=mode)
    got = laplacian_boundary(torch.from_numpy(masks).byte(), frame=name).numpy()
    assert got.tolist() == (response > 0).tolist()
    # BMask R-CNN clamps and takes what is above 0.1: of whole numbers, the same.
    assert got.tolist() == (response.clip(0) > 0.1).tolist()


@pytest.mark.parametrize("shape", [(0, 5, 7), (2, 0, 7), (2, 5, 0), (3, 0, 4, 4)])
def test_of_nothing_is_nothing(shape: tuple[int, ...]) -> None:
    result = laplacian_boundary(torch.zeros(shape, dtype=torch.uint8))
    assert result.shape == shape
    assert result.dtype == torch.bool


def test_one_pixel_is_its_own_boundary() -> None:
    mask = torch.zeros(1, 5, 5, dtype=torch.uint8)
    mask[0, 2, 3] = 1
    assert laplacian_boundary(mask)[0].nonzero().tolist() == [[2, 3]]


def test_the_frame_of_the_image_is_no_boundary_unless_asked_for() -> None:
    full = torch.ones(4, 6, dtype=torch.uint8)
    assert not laplacian_boundary(full).any()
    ring = laplacian_boundary(full, frame="constant")
    assert ring.sum() == 2 * 6 + 2 * 2


@given(
    hnp.arrays(bool, st.tuples(st.integers(0, 3), st.integers(1, 21), st.integers(1, 21))),
    st.sampled_from([1, 2, 4]),
)
def test_target_is_the_union_of_the_boundaries_at_the_cell_centres(
    masks: np.ndarray, stride: int
) -> None:
    height, width = (-(-n // 8) * 8 for n in masks.shape[1:])  # as the network pads
    size = (height // stride, width // stride)
    expected = np.zeros(size)
    for mask in masks:
        # Cell i is sampled at its centre, pixel i*stride + stride//2, as far as the image goes.
        rows = [y for i in range(size[0]) if (y := i * stride + stride // 2) < mask.shape[0]]
        cols = [x for i in range(size[1]) if (x := i * stride + stride // 2) < mask.shape[1]]
        small = mask[np.ix_(rows, cols)]
        if small.size:
            edge = small & ~ndimage.binary_erosion(small, np.ones((3, 3)), border_value=1)
            expected[: len(rows), : len(cols)] = np.maximum(
                expected[: len(rows), : len(cols)], edge
            )
    got = boundary_target(torch.from_numpy(masks), stride=stride, size=size)
    assert got.dtype == torch.float32
    assert got.numpy().tolist() == expected.tolist()


def test_touching_instances_are_divided_from_both_sides() -> None:
    masks = torch.zeros(2, 32, 32, dtype=torch.uint8)
    masks[0, :, :16] = 1
    masks[1, :, 16:] = 1
    target = boundary_target(masks, stride=4, size=(8, 8))
    assert target.sum(0).tolist() == [0, 0, 0, 8, 8, 0, 0, 0]


def test_no_float_map_of_full_size_is_made(largest_float: Callable[..., int]) -> None:
    masks = torch.ones(30, 800, 1333, dtype=torch.uint8)
    elements = largest_float(boundary_target, masks, stride=4, size=(200, 336))
    assert 0 < elements < masks.numel() / 12


def test_cells_that_are_no_whole_number_of_pixels_are_sampled_at_their_centres() -> None:
    """YOLACT's 138 cells over 550 pixels: what the nearest-exact rule of resizing picks."""
    masks = torch.rand(3, 550, 550, generator=torch.Generator().manual_seed(0)) > 0.5
    small = torch.nn.functional.interpolate(masks[None].float(), 138, mode="nearest-exact")[0]
    got = boundary_target(masks, stride=550 / 138, size=(138, 138))
    assert got.equal(laplacian_boundary(small).any(0).float())


@given(hnp.arrays(bool, st.tuples(st.integers(0, 3), st.integers(1, 12), st.integers(1, 12))))
def test_both_sides_are_where_the_laplacian_is_not_zero(masks: np.ndarray) -> None:
    kernel = np.array([[[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]])
    response = ndimage.convolve(masks.astype(int), kernel, mode="nearest")
    size = (masks.shape[1], masks.shape[2])
    got = boundary_target(torch.from_numpy(masks), stride=1, size=size, two_sided=True)
    assert got.numpy().tolist() == (response != 0).any(0).astype(float).tolist()
