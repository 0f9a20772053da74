from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from b2inst.data import CocoIndex
from b2inst.evaluation import Prediction
from b2inst.ops.masks import encode_rle
from b2inst.viz.choose import Choice
from b2inst.viz.qualitative import (
    _MASK,
    _TRUTH,
    _draw_closeup,
    _square_window,
    closeup_figure,
)

from .conftest import SIZE, prediction, square

SIDES = st.integers(20, 60)


@given(SIDES, SIDES, st.tuples(*[st.floats(0, 1)] * 4))
def test_a_window_is_a_square_in_the_image_around_the_box(
    height: int, width: int, at: tuple[float, float, float, float]
) -> None:
    x1, x2 = sorted((at[0] * width, at[1] * width))
    y1, y2 = sorted((at[2] * height, at[3] * height))
    rows, columns = _square_window((x1, y1, x2, y2), (height, width))
    (top, bottom), (left, right) = (rows.start, rows.stop), (columns.start, columns.stop)
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
    drawn = _draw_closeup(picture, mask, truth, (slice(4, 36), slice(0, 32)), side=32)
    assert drawn.shape == (32, 32, 3)
    assert tuple(drawn[8 - 4, 10]) == _TRUTH
    assert tuple(drawn[31 - 4, 20]) == _MASK  # the mask's own outline, off the true one
    outside, inside = drawn[1, 1].tolist(), drawn[16, 16].tolist()
    assert len(set(outside)) == 1
    assert len(set(inside)) == 3


def test_an_object_is_shown_by_each_model_and_its_boundary(index: CocoIndex) -> None:
    half = torch.zeros(20, 24)
    half[:, :7] = 1  # the left of the object's window, columns 1 to 27 of the image
    model = SimpleNamespace(explain=lambda image: SimpleNamespace(boundary=half))
    found = {i: [prediction(i, square(8, 4, 20))] for i in (1, 2, 3, 4)}
    nothing: dict[int, list[Prediction]] = {i: [] for i in (1, 2, 3, 4)}
    choices = [Choice(20, "largest gain", 0.5)]  # of image 2
    figure = closeup_figure(index, choices, {"a": found, "b": nothing}, {"b": model}, side=26)
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "boundary basis"]
    assert figure.axes[0].get_ylabel() == "object 20\nlargest gain\ngain +0.50"
    with_mask, without, heat = (np.asarray(axis.images[0].get_array()) for axis in figure.axes)
    assert with_mask.shape == without.shape == heat.shape == (26, 26, 3)
    assert len(set(without[13, 13].tolist())) == 1  # grey, as there is no mask
    assert len(set(with_mask[13, 13].tolist())) == 3
    assert heat[:, :8].mean() > 150 > 50 > heat[:, -8:].mean()
