"""Resampled AP against the evaluator run on data sets with the images really copied."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from b2inst.evaluation import (
    EvaluationError,
    Interval,
    Prediction,
    evaluate,
    noise_band,
    resample_ap,
)
from b2inst.evaluation.bootstrap import draw_weights, evaluate_and_resample
from b2inst.evaluation.predictions import ranked_by_class

from .conftest import random_pair


def paired_bootstrap(
    runs_a: list[list[Prediction]],
    runs_b: list[list[Prediction]],
    truth: dict[str, Any],
    *,
    metric: str = "AP",
    **options: Any,
) -> Interval | None:
    a, b = (
        [resample_ap(run, truth, metrics=[metric], **options)[metric] for run in runs]
        for runs in (runs_a, runs_b)
    )
    found = noise_band(a, b)
    return found and found.images


AREAS = {"small": (0, 200), "medium": (200, 700), "large": (700, 1e10)}


def with_copies(
    truth: dict[str, Any], predictions: list[Prediction], counts: np.ndarray
) -> tuple[dict[str, Any], list[Prediction]]:
    """A data set with each image copied as often as ``counts`` says."""
    by_image: dict[int, list[list[Any]]] = defaultdict(lambda: [[], []])
    for found in truth["annotations"]:
        by_image[found["image_id"]][0].append(found)
    for record in predictions:
        by_image[record["image_id"]][1].append(record)
    images, annotations, records = [], [], []
    for image, count in zip(truth["images"], counts, strict=True):
        for _ in range(count):
            new = {"id": len(images) + 1}
            images.append(image | new)
            own, detected = by_image[image["id"]]
            for found in own:
                annotations.append(found | {"id": len(annotations), "image_id": new["id"]})
            records += [record | {"image_id": new["id"]} for record in detected]
    return truth | {"images": images, "annotations": annotations}, records


@pytest.mark.parametrize("seed", range(3))
def test_equals_evaluating_copied_images(seed: int) -> None:
    truth, predictions = random_pair(seed, images=10 + 10 * seed, crowds=0.15)
    names = list(evaluate(predictions, truth))
    resamples = 8
    values = resample_ap(
        predictions, truth, metrics=names, resamples=resamples, seed=seed, area_ranges=AREAS
    )
    weights = draw_weights(len(truth["images"]), resamples=resamples, seed=seed)
    for i, counts in enumerate(weights):
        copied, records = with_copies(truth, predictions, counts)
        expected = evaluate(records, copied, area_ranges=AREAS)
        for name in names:
            if expected[name] is None:
                assert np.isnan(values[name][i])
            else:
                assert values[name][i] == pytest.approx(expected[name], abs=1e-9)


@pytest.mark.filterwarnings("ignore:.*objects of a category")
@pytest.mark.parametrize("seed", range(3))
def test_one_run_of_the_evaluators_gives_the_numbers_of_two_calls(seed: int) -> None:
    truth, predictions = random_pair(seed, crowds=0.15)
    names = ["AP", "boundary_APm", "box_AP75", "touching_boundary_AP", "isolated_AP"]
    rules: dict[str, Any] = {"area_ranges": AREAS, "max_detections": 2}
    drawn: dict[str, Any] = {"metrics": names, "resamples": 8, "seed": seed}
    known: dict[tuple[int, int], float] = {}
    for ranked in (predictions, ranked_by_class(predictions), list(predictions)):
        once = evaluate_and_resample(ranked, truth, known=known, **drawn, **rules)
        assert once[0] == evaluate(ranked, truth, **rules)
        expected = resample_ap(ranked, truth, **drawn, **rules)
        assert list(once[1]) == list(expected)
        for name in names:
            np.testing.assert_array_equal(once[1][name], expected[name])


@pytest.mark.parametrize("metric", ["AP", "boundary_AP", "boundary_AP75", "boundary_APm"])
def test_the_interval_is_that_of_a_bootstrap_that_evaluates_again(metric: str) -> None:
    truth, first = random_pair(0, images=15, crowds=0.15)
    # Boxes are no masks: nothing of the interval may come from them.
    second = [p | {"score": p["class_score"], "bbox": [0.0, 0.0, 1.0, 1.0]} for p in first]
    resamples = 12
    found = paired_bootstrap(
        [first], [second], truth, metric=metric, resamples=resamples, area_ranges=AREAS
    )
    differences = []
    for counts in draw_weights(len(truth["images"]), resamples=resamples, seed=0)[1:]:
        a, b = (
            evaluate(records, copied, area_ranges=AREAS)[metric]
            for copied, records in (with_copies(truth, p, counts) for p in (first, second))
        )
        assert a is not None
        assert b is not None
        differences.append(a - b)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(
        tuple(np.percentile(differences, [2.5, 97.5])), abs=1e-9
    )
    assert found.low < found.high


def test_results_do_not_depend_on_how_the_work_is_cut(
    pair: tuple[dict[str, Any], list[Prediction]], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, predictions = pair
    whole = resample_ap(predictions, truth, resamples=50)
    monkeypatch.setattr("b2inst.evaluation.matches._CELLS", 100)
    cut = resample_ap(predictions, truth, resamples=50)
    np.testing.assert_array_equal(whole["AP"], cut["AP"])


def test_no_predictions_give_0_and_no_annotations_nan() -> None:
    truth, predictions = random_pair(0, images=5)
    assert resample_ap([], truth, resamples=3)["AP"].tolist() == [0.0] * 4
    bare = truth | {"annotations": []}
    assert np.isnan(resample_ap(predictions, bare, resamples=3)["AP"]).all()
    assert paired_bootstrap([predictions], [predictions], bare, resamples=3) is None


def test_draws_are_resamples_of_the_images() -> None:
    original, *drawn = draw_weights(40, resamples=2000, seed=1)
    assert original.tolist() == [1] * 40
    weights = np.stack(drawn)
    assert weights.shape == (2000, 40)
    assert (weights.sum(axis=1) == 40).all()
    # An image is in a resample a binomial number of times: mean 1, variance 1 - 1/n.
    assert weights.mean(axis=0) == pytest.approx(np.ones(40), abs=0.12)
    assert weights.var() == pytest.approx(1 - 1 / 40, abs=0.03)
    np.testing.assert_array_equal(weights, draw_weights(40, resamples=2000, seed=1)[1:])
    assert (weights != draw_weights(40, resamples=2000, seed=2)[1:]).any()


def test_a_better_model_is_told_from_a_worse_one() -> None:
    truth, predictions = random_pair(0, images=60)
    generator = np.random.default_rng(0)
    worse = [
        p | {"score": float(generator.random())} for p in predictions if generator.random() < 0.5
    ]
    better = paired_bootstrap([predictions], [worse], truth, metric="AP50", resamples=300)
    assert better is not None
    assert better.low < better.mean < better.high
    assert better.low > 0
    a, b = evaluate(predictions, truth)["AP50"], evaluate(worse, truth)["AP50"]
    assert a is not None
    assert b is not None
    assert better.mean == pytest.approx(a - b, abs=1e-9)

    reverse = paired_bootstrap([worse], [predictions], truth, metric="AP50", resamples=300)
    assert reverse is not None
    assert (reverse.mean, reverse.low, reverse.high) == pytest.approx(
        (-better.mean, -better.high, -better.low)
    )


def test_a_model_does_not_differ_from_itself(
    pair: tuple[dict[str, Any], list[Prediction]],
) -> None:
    truth, predictions = pair
    interval = paired_bootstrap([predictions], [predictions], truth, resamples=20)
    assert interval == Interval(0.0, 0.0, 0.0)


def test_seeds_are_averaged_in_each_resample() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.random((3, 201)), generator.random((3, 201))
    found = noise_band(list(a), list(b), level=0.9)
    difference = a.mean(axis=0) - b.mean(axis=0)
    assert found is not None
    interval = found.images
    assert interval.mean == pytest.approx(difference[0])
    ordered = np.sort(difference[1:])
    assert ordered[9] <= interval.low <= ordered[10]
    assert ordered[189] <= interval.high <= ordered[190]


def test_unknown_metrics_and_missing_runs_are_named(
    pair: tuple[dict[str, Any], list[Prediction]],
) -> None:
    truth, predictions = pair
    with pytest.raises(EvaluationError, match="unknown metric 'AP60'; known: AP, AP50"):
        resample_ap(predictions, truth, metrics=["AP60"])
    with pytest.raises(EvaluationError, match="0 and 1 runs to compare"):
        paired_bootstrap([], [predictions], truth)
