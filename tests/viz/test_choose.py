from __future__ import annotations

import pytest
import torch

from b2inst.data import CocoIndex
from b2inst.viz.choose import by_image, choose_images, object_quality

from .conftest import prediction, square


def test_a_perfect_prediction_has_quality_one(index: CocoIndex) -> None:
    quality = object_quality(index, index.images[0], [prediction(1, square(8, 4, 20))])
    assert quality.tolist() == pytest.approx([1.0], abs=1e-4)  # the crowd is no object


def test_quality_is_the_mean_of_area_and_boundary_quality(index: CocoIndex) -> None:
    quality = object_quality(index, index.images[0], [prediction(1, square(8, 4, 19))])
    iou = 19 * 19 / 400
    # Outlines of the two squares share the top and left sides: 19 + 19 - 1 cells.
    dice = 2 * 37 / (4 * 18 + 4 * 19)
    assert quality.tolist() == pytest.approx([(iou * dice) ** 0.5], abs=1e-4)


@pytest.mark.parametrize(
    "found",
    [
        [],
        [prediction(1, square(8, 4, 20), category=3)],  # another class
        [prediction(1, square(8, 4, 10))],  # mask IoU of 1/4
    ],
)
def test_objects_not_found_have_no_quality(index: CocoIndex, found: list) -> None:
    assert object_quality(index, index.images[0], found).isnan().all()


def test_images_without_objects_have_no_quality(index: CocoIndex) -> None:
    assert len(object_quality(index, index.images[3], [prediction(4, square(0, 0, 5))])) == 0


def test_by_image_leaves_weak_ones_out_and_ranks() -> None:
    masks = [square(0, 0, side) for side in (5, 6, 7)]
    found = by_image(
        [prediction(1, mask, score=s) for mask, s in zip(masks, (0.5, 0.2, 0.8), strict=True)], 0.3
    )
    assert [p["score"] for p in found[1]] == [0.8, 0.5]
    assert found[2] == []


def test_largest_gain_first_then_by_lot(index: CocoIndex) -> None:
    first = [prediction(i, square(8, 4, 17)) for i in (1, 2, 3)]
    second = [prediction(i, square(8, 4, side)) for i, side in ((1, 17), (2, 20), (3, 16))]
    choices = choose_images(index, first, second, best=1, drawn=2)
    assert choices[0].image_id == 2
    assert choices[0].reason == "largest gain"
    assert choices[0].gain is not None
    assert choices[0].gain > 0
    assert sorted(c.image_id for c in choices[1:]) == [1, 3]
    gains = {c.image_id: c.gain for c in choices}
    assert gains[1] == 0
    assert gains[3] < 0, "the lot may fall on images that got worse"
    assert choices == choose_images(index, first, second, best=1, drawn=2)


def test_missed_objects_do_not_count_as_gains(index: CocoIndex) -> None:
    first = [prediction(1, square(8, 4, 18))]
    second = [prediction(1, square(8, 4, 19)), prediction(2, square(8, 4, 20))]
    best = choose_images(index, first, second, best=1, drawn=0)
    assert [c.image_id for c in best] == [1]


def test_where_nothing_is_found_images_are_drawn_all_the_same(index: CocoIndex) -> None:
    choices = choose_images(index, [], [], best=2, drawn=1)
    assert len({c.image_id for c in choices}) == 3
    assert all(c.gain is None and c.reason == "drawn by seed 0" for c in choices)


def test_few_images_are_looked_at_when_asked(index: CocoIndex) -> None:
    found = [prediction(i, torch.as_tensor(square(8, 4, 20))) for i in (1, 2, 3)]
    assert len(choose_images(index, found, found, best=4, candidates=1)) == 1
