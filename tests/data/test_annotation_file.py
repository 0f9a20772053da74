from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2inst.data.annotation_file import Packed, Polygons
from b2inst.data.segmentation import BORDER_TOLERANCE, rasterise, read_segmentation

TRIANGLE = [1.0, 1, 9, 1, 9, 9]  # 32 pixels
SQUARE = [2.0, 2, 6, 2, 6, 6, 2, 6]  # 16 pixels
ODD_THINGS = [
    None, 5, "text", {"size": [20, 30], "counts": [600]}, [], [[]], [[1, 1, 5, 5]],
    [[1, 1, 5, 1, 5]], [1, 1, 5, 1, 5, 5], [["1"] * 6], [[[1, 1]] * 6], [[10**400] * 6],
    [TRIANGLE, None], [TRIANGLE, [1, 2, 3, 4, 5, None]],
]  # fmt: skip


def pack(segmentations: list[Any]) -> tuple[Polygons, list[int | None]]:
    polygons = Polygons()
    packed = [polygons.packed(segmentation) for segmentation in segmentations]
    for segmentation, found in zip(segmentations, packed, strict=True):
        assert isinstance(found, Packed) or found is segmentation
    return polygons, [found if isinstance(found, Packed) else None for found in packed]


def sound(segmentations: list[Any], size: tuple[float, float] = (30, 20)) -> list[bool]:
    polygons, positions = pack(segmentations)
    sizes = np.array([size] * len(polygons), dtype=np.float64).reshape(-1, 2)
    told = polygons.sound(sizes, tolerance=3, area=4)
    return [k is not None and bool(told[k]) for k in positions]


def test_polygons_come_back_by_position() -> None:
    polygons, positions = pack([[TRIANGLE], None, [SQUARE, TRIANGLE], [TRIANGLE, "no"], [SQUARE]])
    assert positions == [0, None, 1, None, 2]
    assert [[p.tolist() for p in polygons[k]] for k in range(3)] == [
        [TRIANGLE],
        [SQUARE, TRIANGLE],
        [SQUARE],
    ]
    first = polygons[0][0]
    assert first.dtype == np.float64
    assert first.base is None  # keeps no other polygon in memory


@pytest.mark.parametrize("odd", ODD_THINGS, ids=repr)
def test_odd_things_are_no_polygons_and_leave_the_others_alone(odd: Any) -> None:
    assert sound([[TRIANGLE], odd, [SQUARE]]) == [True, False, True]
    assert sound([odd]) == [False]
    assert sound([]) == []


@pytest.mark.parametrize(
    ("segmentation", "expected"),
    [
        ([SQUARE], True),
        ([[-3, 0, 33, 0, 33, 23, -3, 23]], True),
        ([[-3.1, 0, 9, 0, 9, 9]], False),
        ([[0, 0, 9, 0, 9, 23.1]], False),
        ([SQUARE, [0, 0, 33.1, 0, 9, 9]], False),
        ([[1, 1, 5, 1, float("nan"), 5]], False),
        ([[1, 1, 5, 1, float("inf"), 5]], False),
        ([[4, 4, 9, 4, 4, 4]], False),  # a line
        ([[0, 0, 29, 0, 29, 0.9, 0, 0.9]], False),  # broad enough only one way
        ([[-3, 2, 0, 2, 0, 12, -3, 12]], False),  # within the tolerance, but of no pixel
        ([[4, 4, 5.5, 4, 5.5, 5.5]], False),  # a pixel or so
        ([[4, 4, 5.5, 4, 5.5, 5.5], SQUARE], True),
        ([SQUARE[::-1]], True),  # the other way round
    ],
)
def test_what_is_sound(segmentation: Any, expected: bool) -> None:
    assert sound([[TRIANGLE], segmentation, [SQUARE]]) == [True, expected, True]
    if expected:
        assert rasterise(segmentation, 20, 30).any()


def test_nothing_is_in_an_unknown_image() -> None:
    assert sound([[SQUARE]], size=(float("nan"), float("nan"))) == [False]


coordinates = st.floats(-6, 40, width=32) | st.integers(-6, 40)
anything = st.lists(
    st.lists(coordinates | st.sampled_from([float("nan"), None, "1", True]), max_size=12)
    | st.lists(coordinates, min_size=6, max_size=12)
    | st.none(),
    max_size=3,
)


@given(st.lists(anything, min_size=1, max_size=6))
def test_what_is_told_sound_together_is_sound_alone(segmentations: list[Any]) -> None:
    polygons, positions = pack(segmentations)
    told = polygons.sound(
        np.full((len(polygons), 2), (30.0, 20.0)), tolerance=BORDER_TOLERANCE, area=4
    )
    for k, segmentation in zip(positions, segmentations, strict=True):
        if k is not None and told[k]:
            read = read_segmentation(segmentation, 20, 30, pytest.fail)
            assert [p.tolist() for p in polygons[k]] == [list(p) for p in read] == segmentation
