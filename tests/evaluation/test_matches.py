"""COCO's rules of matching, one by one; the whole is tested in test_bootstrap."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from b2inst.evaluation import Prediction
from b2inst.evaluation.average_precision import load_checked, run_evaluators
from b2inst.evaluation.matches import CategoryMatches, match

from .conftest import SIZE, annotation, dataset, prediction


def strip(left: int, right: int) -> np.ndarray:
    """Columns ``left`` to ``right`` of a band ten pixels high."""
    mask = np.zeros(SIZE, dtype=bool)
    mask[10:20, left:right] = True
    return mask


def matches(
    annotations: list[dict[str, Any]],
    predictions: list[Prediction],
    *,
    images: int = 1,
    max_detections: int = 100,
) -> CategoryMatches:
    truth = load_checked(predictions, dataset(annotations, images=images))
    evaluators = run_evaluators(truth, predictions, ["segm"], max_detections=max_detections)
    (category,) = match(evaluators["segm"])
    return category


def test_the_better_scored_detection_takes_the_annotation() -> None:
    found = matches(
        [annotation(1, 10, 2, strip(0, 20))],
        [prediction(10, 2, strip(0, 20), 0.3), prediction(10, 2, strip(0, 18), 0.8)],
    )
    # The second, of IoU 0.9, comes first and takes it up to 0.9; the exact one above.
    assert found.true_positive[:, 0].tolist() == [True] * 9 + [False]
    assert found.true_positive[:, 1].tolist() == [False] * 9 + [True]
    assert not found.ignored.any()


def test_a_detection_takes_the_annotation_it_overlaps_most() -> None:
    found = matches(
        [annotation(1, 10, 2, strip(0, 30)), annotation(2, 10, 2, strip(4, 34))],
        [prediction(10, 2, strip(3, 33), 0.9), prediction(10, 2, strip(4, 34), 0.8)],
    )
    # The first overlaps the annotations by 27/33 and 29/31 = 0.935 and takes the latter, which
    # leaves 26/34 = 0.76 for the second; above 0.935 it takes none and the second its own.
    assert found.true_positive[:, 0].tolist() == [True] * 9 + [False]
    assert found.true_positive[:, 1].tolist() == [True] * 6 + [False] * 3 + [True]


def test_detections_on_a_crowd_are_ignored_however_many() -> None:
    found = matches(
        [annotation(1, 10, 2, strip(0, 60), iscrowd=1), annotation(2, 10, 2, strip(70, 90))],
        [prediction(10, 2, strip(5, 15), 0.9), prediction(10, 2, strip(30, 50), 0.8)],
    )
    assert found.positives.tolist() == [1]
    assert found.true_positive.shape == (10, 0)  # ignored at every threshold: not carried


def test_images_are_in_order_of_id_and_detections_of_score() -> None:
    found = matches(
        [annotation(1, 12, 2, strip(0, 20)), annotation(2, 10, 2, strip(0, 20))],
        [
            prediction(12, 2, strip(0, 20), 0.5),
            prediction(11, 2, strip(0, 20), 0.9),
            prediction(10, 2, strip(0, 20), 0.5),
        ],
        images=3,
    )
    assert found.positives.tolist() == [1, 0, 1]
    assert found.image.tolist() == [1, 0, 2]
    assert found.true_positive[0].tolist() == [False, True, True]


@pytest.mark.parametrize(("limit", "counted"), [(100, 100), (5, 5), (120, 120), (500, 120)])
def test_only_the_best_of_an_image_count(limit: int, counted: int) -> None:
    scores = np.linspace(0.9, 0.1, 120).tolist()
    found = matches(
        [annotation(1, 10, 2, strip(0, 20))],
        [prediction(10, 2, strip(60, 90), score) for score in scores[:-1]]
        + [prediction(10, 2, strip(0, 20), scores[-1])],
        max_detections=limit,
    )
    assert found.true_positive.shape == (10, counted)
    assert found.true_positive.any() == (counted == 120)
