from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from b2inst.data import CocoIndex
from b2inst.viz.draw import Picture
from b2inst.viz.paper.error_counts import error_figure
from b2inst.viz.paper.error_map import (
    KINDS,
    NOT_FOUND,
    ErrorCount,
    count_errors,
    draw_errors,
    error_maps,
)

from ..conftest import SIZE, prediction, square

MASKS = arrays(bool, (12, 15))


@given(MASKS, MASKS, st.integers(1, 4))
def test_the_band_is_what_lies_near_the_other_side(
    predicted: np.ndarray, truth: np.ndarray, band: int
) -> None:
    found = error_maps(predicted, truth, band=band)
    assert (sum(m.astype(int) for m in found.values()) == (predicted != truth)).all()
    # Chessboard distance to the other side; without another side nothing is near.
    for name, inside in (("missing", truth), ("too much", ~truth)):
        wrong = inside & (predicted != truth)
        distance = np.full(truth.shape, np.inf)
        if not inside.all():
            distance = ndimage.distance_transform_cdt(inside, metric="chessboard")
        away = "interior" if name == "missing" else "beyond"
        assert (found[f"{name}, in the band"] == (wrong & (distance <= band))).all()
        assert (found[f"{name}, {away}"] == (wrong & (distance > band))).all()


def test_errors_are_counted_over_objects_that_all_find(index: CocoIndex) -> None:
    exact, narrow = square(8, 4, 20), square(8, 4, 18)  # the true one is (8, 4, 20)
    wide = square(8, 4, 22)
    models = {
        "one": {1: [prediction(1, narrow)], 2: [prediction(2, exact)], 3: [], 4: []},
        "two": {1: [prediction(1, wide)], 2: [], 3: [], 4: []},
    }
    counts = count_errors(index, index.images, models)
    one, two = counts["one"], counts["two"]
    assert one.area == two.area == 400  # of image 1 alone; crowds do not count
    assert one.objects == two.objects == 1
    assert (one.missed, two.missed) == (1, 2)
    # The band of 40×48 pixels is one pixel wide; two rows and columns are missing or too much.
    # Missing in the band: the last row and column, 39 pixels, and where the ones before them end.
    assert list(one.pixels.values()) == [41, 0, 35, 0]
    # Too much in the band: the row and column next to the object.
    assert list(two.pixels.values()) == [0, 41, 0, 43]
    assert one.percent("missing, in the band") == 10.25


def test_nothing_found_is_no_share() -> None:
    empty = ErrorCount(dict.fromkeys(KINDS, 0), area=0, objects=0, missed=3)
    assert np.isnan(empty.percent("missing, interior"))


def test_each_kind_has_its_colour_on_a_grey_image(index: CocoIndex) -> None:
    record = index.images[0]
    picture: Picture = np.full((*SIZE, 3), (200, 30, 30), dtype=np.uint8)
    drawn = draw_errors(picture, index, record, [prediction(1, square(8, 4, 18))], side=40)
    assert tuple(drawn[27, 10]) == KINDS["missing, in the band"]
    assert tuple(drawn[26, 10]) == KINDS["missing, interior"]
    assert len(set(drawn[15, 10].tolist())) == 1  # what is right is grey
    lost = draw_errors(picture, index, record, [], side=40)
    assert tuple(lost[15, 10]) == NOT_FOUND


def test_bars_are_means_and_dots_seeds() -> None:
    picture: Picture = np.zeros((8, 8, 3), dtype=np.uint8)

    def counted(first: int) -> ErrorCount:
        return ErrorCount(dict(zip(KINDS, (first, 2, 3, 4), strict=True)), 100, 5, 0)

    seeds = [{"a": counted(10), "b": counted(20)}, {"a": counted(30), "b": counted(20)}]
    figure = error_figure([[picture] * 3], ["t", "a", "b"], ["image"], seeds)
    axis = figure.axes[-1]
    heights = [bar.get_height() for bar in axis.patches]  # type: ignore[attr-defined]
    assert heights == pytest.approx([20, 20, 2, 2, 3, 3, 4, 4])
    assert list(axis.lines[0].get_ydata()) == [10, 30]
    assert [label.get_text() for label in axis.get_xticklabels()] == list(KINDS)
