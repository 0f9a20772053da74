from __future__ import annotations

import pytest

from b2inst.data import CocoIndex
from b2inst.evaluation import Prediction
from b2inst.viz.choose import (
    Choice,
    candidates,
    choose,
    detections,
    image_gains,
    object_gains,
    visible,
)

from .conftest import prediction, square

Found = dict[int, list[Prediction]]


def found(**masks: int) -> Found:
    """Squares of the given sides on the objects of images 1 to 4."""
    return {
        i: [prediction(i, square(8, 4, masks[f"image{i}"]))] if f"image{i}" in masks else []
        for i in (1, 2, 3, 4)
    }


def test_gains_are_of_objects_that_both_find(index: CocoIndex) -> None:
    first, second = found(image1=19, image2=20), found(image1=20, image3=20)
    gains = object_gains(index, first, second)
    # The true square has a side of 20; the boundaries of squares of 19 and 20 share two sides.
    iou, dice = 19 * 19 / 400, 2 * 37 / (4 * 18 + 4 * 19)
    assert gains == pytest.approx({10: 1 - (iou * dice) ** 0.5}, abs=1e-4)
    assert image_gains(index, first, second) == pytest.approx({1: gains[10]})
    assert object_gains(index, second, first)[10] == pytest.approx(-gains[10])


@pytest.mark.parametrize(
    "predictions",
    [
        [],
        [prediction(1, square(8, 4, 20), category=3)],  # another class
        [prediction(1, square(8, 4, 10))],  # mask IoU of 1/4
    ],
)
def test_objects_may_not_be_found(index: CocoIndex, predictions: list[Prediction]) -> None:
    ((annotation, mask),) = detections(index, index.images[0], predictions)
    assert (annotation.id, mask) == (10, None)


def test_objects_are_matched_with_the_best_mask_of_their_class(index: CocoIndex) -> None:
    good, better = prediction(1, square(8, 4, 17)), prediction(1, square(8, 4, 19))
    other = prediction(1, square(8, 4, 20), category=3)
    ((_, mask),) = detections(index, index.images[0], [good, better, other])
    assert mask == better["segmentation"]
    assert detections(index, index.images[3], [prediction(4, square(0, 0, 5))]) == []


def test_weak_instances_are_not_visible_and_the_best_ranked_comes_first(index: CocoIndex) -> None:
    places = [square(0, 0, 5), square(20, 0, 6), square(0, 20, 7)]
    made = [prediction(1, m, score=s) for m, s in zip(places, (0.6, 0.2, 0.8), strict=True)]
    made.append(
        prediction(2, square(0, 0, 5), score=0.9) | {"score": 0.1}
    )  # its class score counts
    made.append(prediction(99, square(0, 0, 5)))
    shown = visible(made, index)
    assert {i: [p["score"] for p in of] for i, of in shown.items()} == {
        1: [0.8, 0.6],
        2: [0.1],
        3: [],
        4: [],
    }


def test_of_instances_in_one_place_the_best_ranked_is_visible(index: CocoIndex) -> None:
    made = [
        prediction(1, square(8, 4, 18), score=0.6),
        prediction(1, square(8, 4, 20), category=3, score=0.9),
        prediction(1, square(8, 4, 10), score=0.7),  # a part of it, IoU 1/4
    ]
    assert [p["score"] for p in visible(made, index)[1]] == [0.9, 0.7]


def test_gains_then_losses_then_random_ones() -> None:
    gains = {1: 0.5, 2: -3.0, 3: 9.0, 4: 2.0, 5: -8.0, 6: 0.0}
    chosen = choose(gains, gains, best=2, worst=1, at_random=2)
    assert chosen[:3] == [
        Choice(3, "largest gain", 9.0),
        Choice(4, "largest gain", 2.0),
        Choice(5, "largest loss", -8.0),
    ]
    assert {c.id for c in chosen[3:]} < {1, 2, 6}
    assert {c.reason for c in chosen[3:]} == {"random, seed 0"}
    assert chosen == choose(gains, gains, best=2, worst=1, at_random=2)


def test_without_losses_the_smallest_gain_is_not_called_a_loss() -> None:
    assert choose({1: 3.0, 2: 1.0}, (), worst=1) == [Choice(2, "smallest gain", 1.0)]


def test_no_image_is_chosen_twice() -> None:
    chosen = choose({1: 1.0, 2: -1.0}, (1, 2, 3), best=2, worst=2, at_random=2)
    assert [c.id for c in chosen] == [1, 2, 3]


def test_without_gains_all_are_random() -> None:
    choices = choose({}, (1, 2, 3), best=2, at_random=1)
    assert {c.id for c in choices} == {1, 2, 3}
    assert all(c.gain is None and c.label == "random, seed 0" for c in choices)


def test_few_images_of_many_are_candidates(index: CocoIndex) -> None:
    assert candidates(index) is index
    few = candidates(index, count=2)
    assert len(few.images) == 2
    assert few == candidates(index, count=2)
