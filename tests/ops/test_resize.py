from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2inst.ops.resize import resized_size


def of_detectron2(height: int, width: int, shorter: int, longer_max: int) -> tuple[int, int]:
    """The rule as published: one side exact, then both scaled again when the longer is too long."""
    scale = shorter / min(height, width)
    high, wide = (shorter, scale * width) if height < width else (scale * height, shorter)
    if max(high, wide) > longer_max:
        again = longer_max / max(high, wide)
        high, wide = high * again, wide * again
    return int(high + 0.5), int(wide + 0.5)


@given(
    st.integers(20, 3000),
    st.integers(20, 3000),
    st.sampled_from([(800, 1333), (640, 1333), (96, 160), (320, 533)]),
)
def test_size_rule_is_that_of_the_published_baselines(
    height: int, width: int, limits: tuple[int, int]
) -> None:
    assert resized_size(height, width, *limits) == of_detectron2(height, width, *limits)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((375, 500), (800, 1067)),
        ((640, 428), (1196, 800)),
        ((100, 1000), (133, 1333)),
        # Halves that rounding in another order turns the other way.
        ((27, 86), (418, 1333)),
        ((48, 992), (64, 1333)),
        ((90, 620), (193, 1333)),
    ],
)
def test_sizes_by_hand(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized_size(*size, 800, 1333) == expected


def test_a_thread_of_an_image_keeps_a_pixel() -> None:
    assert resized_size(4000, 1, 800, 1333) == (1333, 1)
