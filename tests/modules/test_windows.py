from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from b2inst.modules.tensor_mask import all_windows, assign
from b2inst.structures import Features

SIZES = (3, 4)


def maps(*shapes: tuple[int, int, int]) -> Features:
    """Strides, heights and widths to features."""
    return {stride: torch.zeros(2, 5, height, width) for stride, height, width in shapes}


def test_windows_are_around_cells() -> None:
    windows, strides = all_windows(maps((4, 2, 2), (8, 1, 1)), SIZES)
    assert windows.tolist() == [
        [-6, -6, 6, 6],
        [-8, -8, 8, 8],
        [-2, -6, 10, 6],
        [-4, -8, 12, 8],
        [-6, -2, 6, 10],
        [-8, -4, 8, 12],
        [-2, -2, 10, 10],
        [-4, -4, 12, 12],
        [-12, -12, 12, 12],
        [-16, -16, 16, 16],
    ]
    assert strides.tolist() == [4] * 8 + [8] * 2
    assert windows.dtype == strides.dtype == torch.float32


#: Of an image of 32×40 pixels, with windows of 12, 16, 24, 32, 48 and 64.
WINDOWS, STRIDES = all_windows(maps((4, 8, 10), (8, 4, 5), (16, 2, 3)), SIZES)


def slow_assign(boxes: list[list[float]]) -> list[tuple[int, int]]:
    """Window by window, the paper's three conditions, and the index of the only object."""
    found = []
    for i, (window, stride) in enumerate(zip(WINDOWS.tolist(), STRIDES.tolist(), strict=True)):
        left, top, right, bottom = window
        objects = []
        for k, (x1, y1, x2, y2) in enumerate(boxes):
            contained = left <= x1 and top <= y1 and x2 <= right and y2 <= bottom
            apart = math.hypot((x1 + x2 - left - right) / 2, (y1 + y2 - top - bottom) / 2)
            # The smallest windows are 12 pixels, from the centre of the first cell to the last 8.
            fits = right - left - stride <= max(2 * max(x2 - x1, y2 - y1), 8)
            if contained and apart <= stride and fits:
                objects.append(k)
        if len(objects) == 1:
            found.append((i, objects[0]))
    return found


def pairs(boxes: Tensor) -> list[tuple[int, int]]:
    index, objects = assign(boxes, WINDOWS, STRIDES)
    assert index.dtype == objects.dtype == torch.int64
    return list(zip(index.tolist(), objects.tolist(), strict=True))


quarters = st.integers(0, 160).map(lambda n: n / 4)
box = st.tuples(quarters, quarters, quarters, quarters).filter(
    lambda b: b[0] < b[2] and b[1] < b[3] <= 32
)
pixel = st.tuples(st.integers(0, 39), st.integers(0, 31)).map(lambda p: (*p, p[0] + 1, p[1] + 1))
border = st.sampled_from([(0, 0, 40, 32), (0, 0, 6, 6), (32, 20, 40, 32), (39, 31, 40, 32)])


@given(st.lists(box | pixel | border, max_size=5))
def test_positive_windows_are_those_of_a_loop(boxes: list[tuple[float, ...]]) -> None:
    given_boxes = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    assert pairs(given_boxes) == slow_assign(given_boxes.tolist())


def test_a_pixel_has_the_smallest_windows() -> None:
    """At the corner, those around it and the cells to its right and below, 3.5 pixels away."""
    found = [index for index, _ in pairs(torch.tensor([[0.0, 0, 1, 1]]))]
    assert WINDOWS[found].tolist() == [[-6, -6, 6, 6], [-2, -6, 10, 6], [-6, -2, 6, 10]]


def test_a_window_is_at_most_twice_the_box_and_a_stride() -> None:
    around = WINDOWS.tolist().index([0, 0, 16, 16])
    for side, positive in ((5, False), (6, True), (16, True), (17, False)):
        box = torch.tensor([[8 - side / 2, 7, 8 + side / 2, 9]])
        assert (around in dict(pairs(box))) == positive


def test_a_box_is_at_most_a_stride_from_the_centre_in_any_direction() -> None:
    around = WINDOWS.tolist().index([2, 2, 14, 14])
    for x, y, positive in ((4, 0, True), (4.25, 0, False), (2.5, 3, True), (3, 3, False)):
        box = torch.tensor([[x - 1, y - 1, x + 1, y + 1]]) + 8
        assert (around in dict(pairs(box))) == positive


def test_a_window_of_two_objects_is_of_none() -> None:
    left, right = torch.tensor([[4.0, 4, 8, 12]]), torch.tensor([[8.0, 4, 12, 12]])
    (first, second) = (dict(pairs(own)) for own in (left, right))
    shared = set(first) & set(second)
    assert shared
    found = dict(pairs(torch.cat([left, right])))
    assert set(found) == set(first) ^ set(second)
    assert all(found[index] == (index in second) for index in found)
    assert pairs(left.repeat(2, 1)) == pairs(left.repeat(3, 1)) == []


def test_no_objects() -> None:
    assert pairs(torch.zeros(0, 4)) == []
