from __future__ import annotations

import pytest
import torch

from b2inst.data import CocoIndex
from b2inst.viz.choose import Choice, by_image, choose_images, object_quality, pairs, pick, shown

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


def test_weak_instances_are_not_shown_and_the_best_ranked_comes_first() -> None:
    places = [square(0, 0, 5), square(20, 0, 6), square(0, 20, 7)]
    found = [prediction(1, m, score=s) for m, s in zip(places, (0.6, 0.2, 0.8), strict=True)]
    assert [p["score"] for p in shown(found, 0.3)] == [0.8, 0.6]


def test_it_is_the_class_score_that_must_not_be_weak() -> None:
    rated = prediction(1, square(0, 0, 5), score=0.9) | {"score": 0.1}
    assert shown([rated], 0.5) == [rated]


def test_of_instances_in_one_place_the_best_ranked_is_shown() -> None:
    found = [
        prediction(1, square(8, 4, 18), score=0.6),
        prediction(1, square(8, 4, 20), category=3, score=0.9),
        prediction(1, square(8, 4, 10), score=0.7),  # a part of it, IoU 1/4
    ]
    assert [p["score"] for p in shown(found, 0.3)] == [0.9, 0.7]


def test_predictions_are_grouped_by_image() -> None:
    found = by_image([prediction(i, square(0, 0, 5)) for i in (2, 1, 2)])
    assert [len(found[i]) for i in (1, 2, 3)] == [1, 2, 0]


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


def test_gains_then_losses_then_the_lot() -> None:
    gains = {1: 0.5, 2: -3.0, 3: 9.0, 4: 2.0, 5: -8.0, 6: 0.0}
    chosen = pick(gains, gains, best=2, worst=1, drawn=2, seed=4)
    assert chosen[:3] == [
        Choice(3, "largest gain", 9.0),
        Choice(4, "largest gain", 2.0),
        Choice(5, "largest loss", -8.0),
    ]
    assert {c.image_id for c in chosen[3:]} < {1, 2, 6}
    assert {c.reason for c in chosen[3:]} == {"drawn by seed 4"}
    assert chosen == pick(gains, gains, best=2, worst=1, drawn=2, seed=4)


def test_where_nothing_is_lost_the_least_gain_is_not_called_a_loss() -> None:
    assert pick({1: 3.0, 2: 1.0}, (), worst=1) == [Choice(2, "least gain", 1.0)]


def test_no_image_is_chosen_twice() -> None:
    chosen = pick({1: 1.0, 2: -1.0}, (1, 2, 3), best=2, worst=2, drawn=2)
    assert [c.image_id for c in chosen] == [1, 2, 3]


def test_objects_are_paired_with_the_best_mask_of_their_class(index: CocoIndex) -> None:
    good, better = square(8, 4, 17), square(8, 4, 19)
    other = prediction(1, square(8, 4, 20), category=3)
    (pair,) = pairs(index, index.images[0], [prediction(1, good), prediction(1, better), other])
    assert pair.found == prediction(1, better)["segmentation"]
    (missed,) = pairs(index, index.images[0], [other])
    assert missed.found is None
    assert missed.truth == pair.truth
