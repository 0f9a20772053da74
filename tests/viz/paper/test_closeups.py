from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from b2inst.data import CocoIndex
from b2inst.ops.masks import encode_rle
from b2inst.viz.paper.closeups import (
    MASK,
    TRUTH,
    crop_map,
    draw_closeup,
    object_gains,
    window_around,
)

from ..conftest import SIZE, prediction, square


def test_gains_are_of_objects_that_both_find(index: CocoIndex) -> None:
    exact, narrow = square(8, 4, 20), square(8, 4, 19)
    first = {1: [prediction(1, narrow)], 2: [prediction(2, exact)], 3: [], 4: []}
    second = {1: [prediction(1, exact)], 2: [], 3: [prediction(3, exact)], 4: []}
    gains = object_gains(index, index.images, first, second)
    iou, dice = 19 * 19 / 400, 2 * 37 / (4 * 18 + 4 * 19)
    assert gains == pytest.approx({10: 1 - (iou * dice) ** 0.5}, abs=1e-4)


SIDES = st.integers(20, 60)


@given(SIDES, SIDES, st.tuples(*[st.floats(0, 1)] * 4))
def test_a_window_is_a_square_in_the_image_around_the_box(
    height: int, width: int, at: tuple[float, float, float, float]
) -> None:
    x1, x2 = sorted((at[0] * width, at[1] * width))
    y1, y2 = sorted((at[2] * height, at[3] * height))
    top, left, bottom, right = window_around((x1, y1, x2, y2), (height, width))
    assert 0 <= top <= bottom <= height
    assert 0 <= left <= right <= width
    assert bottom - top == right - left
    if max(x2 - x1, y2 - y1) * 1.3 < min(height, width) - 1:
        assert left - 1 <= x1
        assert x2 <= right + 1
        assert top - 1 <= y1
        assert y2 <= bottom + 1


def test_mask_and_true_outline_are_drawn_on_grey() -> None:
    picture = np.full((*SIZE, 3), (200, 30, 30), dtype=np.uint8)
    truth, mask = encode_rle(torch.stack([square(8, 4, 20), square(12, 8, 20)]))
    drawn = draw_closeup(picture, mask, truth, (4, 0, 36, 32), side=32)
    assert drawn.shape == (32, 32, 3)
    assert tuple(drawn[8 - 4, 10]) == TRUTH
    assert tuple(drawn[31 - 4, 20]) == MASK  # the mask's own outline, off the true one
    outside, inside = drawn[1, 1].tolist(), drawn[16, 16].tolist()
    assert len(set(outside)) == 1
    assert len(set(inside)) == 3


def test_the_map_is_cut_where_the_window_is() -> None:
    values = torch.zeros(20, 24)
    values[4:8, 2:6] = 1  # pixels 8–16 and 4–12 of the image
    cut = crop_map(values, (8, 4, 16, 12), SIZE)
    assert cut.shape == (8, 8)
    assert (cut[1:-1, 1:-1] == 1).all()
    assert crop_map(values, (20, 20, 28, 28), SIZE).max() == 0
