from __future__ import annotations

import cv2
import numpy as np
import pytest

from b2inst.data.shapes import SHAPE_CLASSES, Part, ShapeClass, coverage

TRIALS = 20


@pytest.mark.parametrize("kind", SHAPE_CLASSES, ids=lambda kind: kind.name)
def test_shapes_about_fill_the_unit_disc(kind: ShapeClass) -> None:
    for seed in range(TRIALS):
        shape = kind.draw(np.random.default_rng(seed))
        points = np.concatenate([line for part in shape for line in part.lines])
        assert np.isfinite(points).all()
        reach = np.hypot(*points.T).max()
        assert 0.75 < reach < 1.45


@pytest.mark.parametrize("kind", SHAPE_CLASSES, ids=lambda kind: kind.name)
def test_shapes_are_in_one_piece(kind: ShapeClass) -> None:
    for seed in range(TRIALS):
        shape = kind.draw(np.random.default_rng(seed))
        alpha = coverage(shape, np.array([[40.0, 0, 64], [0, 40, 64]]), 128)
        inside = (alpha >= 128).astype(np.uint8)
        assert inside.mean() > 0.05
        assert cv2.connectedComponents(inside, connectivity=8)[0] == 2  # background and object


def test_gears_have_holes() -> None:
    gear = next(kind for kind in SHAPE_CLASSES if kind.name == "gear")
    alpha = coverage(
        gear.draw(np.random.default_rng(0)), np.array([[40.0, 0, 64], [0, 40, 64]]), 128
    )
    assert alpha[64, 64] == 0


def test_hues_lie_apart() -> None:
    hues = sorted(kind.hue for kind in SHAPE_CLASSES)
    gaps = np.diff([*hues, hues[0] + 360])
    assert gaps.min() >= 25


def test_crescents_lie_between_two_circles() -> None:
    crescent = next(kind for kind in SHAPE_CLASSES if kind.name == "crescent")
    for seed in range(TRIALS):
        (part,) = crescent.draw(np.random.default_rng(seed))
        radius = np.hypot(*(part.lines[0] - [0.2, 0]).T)
        assert radius.max() == pytest.approx(1)


def test_coverage_counts_area() -> None:
    square = [Part((np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]]),))]
    alpha = coverage(square, np.array([[5.0, 0, 10.5], [0, 5, 10]]), 20)
    # x from 5.5 to 15.5, y from 5 to 15; outlines are drawn up to a quarter pixel wide
    assert alpha.sum() / 255 == pytest.approx(100, rel=0.06)
    assert (alpha[6:14, 7:14] == 255).all()
    assert alpha[:, :5].max() == alpha[:4].max() == 0
    assert alpha[10, 5] == pytest.approx(128, abs=64)


def test_coverage_of_strokes() -> None:
    line = [Part((np.array([[-1.0, 0], [1, 0]]),), 0.4)]
    alpha = coverage(line, np.array([[10.0, 0, 16], [0, 10, 16]]), 32)
    assert alpha.sum() / 255 == pytest.approx(20 * 4 + np.pi * 4, rel=0.1)
