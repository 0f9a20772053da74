"""Counts of label images against torchmetrics' PQ and against a slow formula with SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torchmetrics.detection import PanopticQuality

from b2inst.evaluation import (
    EvaluationError,
    Prediction,
    best_threshold,
    count_matches,
    resample_counts,
)
from b2inst.evaluation.bootstrap import draw_weights

from .conftest import SIZE, annotation, dataset, dense_pair, ellipse, prediction, random_pair

THRESHOLDS = np.linspace(0.5, 0.95, 10)


def strip(left: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[10:20, left:right] = True
    return mask


def labels(generator: np.random.Generator, most: int = 8) -> np.ndarray:
    """H×W int, objects from 1 on, a later one over an earlier one."""
    image = np.zeros(SIZE, dtype=int)
    for number in range(1, generator.integers(0, most) + 1):
        image[ellipse(generator)] = number
    return image


def moved(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The same labels a pixel or two aside, some gone and some new."""
    image = np.roll(image, generator.integers(-2, 3, size=2), axis=(0, 1))
    image[np.isin(image, generator.integers(1, 9, size=2))] = 0
    image[ellipse(generator)] = 9
    return image


def slow_counts(truth: np.ndarray, found: np.ndarray, threshold: float) -> np.ndarray:
    """TP, FP and FN of two label images, with the most pairs that can be."""
    true_ids, ids = (np.setdiff1d(image, [0]) for image in (truth, found))
    ious = np.array(
        [
            [
                ((found == i) & (truth == j)).sum() / ((found == i) | (truth == j)).sum()
                for j in true_ids
            ]
            for i in ids
        ]
    ).reshape(len(ids), len(true_ids))
    rows, columns = linear_sum_assignment(ious < threshold)
    pairs = int((ious[rows, columns] >= threshold).sum())
    return np.array([pairs, len(ids) - pairs, len(true_ids) - pairs])


def as_coco(
    truths: list[np.ndarray], founds: list[np.ndarray]
) -> tuple[dict[str, Any], list[Prediction]]:
    annotations: list[dict[str, Any]] = []
    predictions: list[Prediction] = []
    for image_id, (truth, found) in enumerate(zip(truths, founds, strict=True), start=10):
        for j in np.setdiff1d(truth, [0]):
            annotations.append(annotation(len(annotations) + 1, image_id, 2, truth == j))
        predictions += [prediction(image_id, 2, found == i, 0.9) for i in np.setdiff1d(found, [0])]
    return dataset(annotations, images=len(truths)), predictions


def pairs_of_images(seed: int, images: int = 4) -> tuple[list[np.ndarray], list[np.ndarray]]:
    generator = np.random.default_rng(seed)
    truths = [labels(generator) for _ in range(images)]
    return truths, [moved(truth, generator) for truth in truths]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_dsb_ap_equals_a_slow_formula(seed: int) -> None:
    truths, founds = pairs_of_images(seed)
    counts = np.sum(
        [
            [slow_counts(t, f, threshold) for threshold in THRESHOLDS]
            for t, f in zip(truths, founds, strict=True)
        ],
        axis=0,
    )
    truth, predictions = as_coco(truths, founds)
    ours = count_matches(predictions, truth, threshold=0.5)
    both = (ours.true_positive, ours.false_positive, ours.false_negative)
    np.testing.assert_array_equal(np.stack([c.sum(0)[1:] for c in both], axis=1), counts)
    values = resample_counts(predictions, truth, threshold=0.5, resamples=1)
    expected = 100 * counts[:, 0] / counts.sum(axis=1)
    assert values["dsb_AP"][0] == pytest.approx(expected.mean())
    for name, place in (("dsb_AP50", 0), ("dsb_AP75", 5), ("dsb_AP90", 8)):
        assert values[name][0] == pytest.approx(expected[place])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_pq_equals_torchmetrics(seed: int) -> None:
    truths, founds = pairs_of_images(seed)
    metric = PanopticQuality(things={1}, stuffs={0}, return_per_class=True)

    def coded(images: list[np.ndarray]) -> torch.Tensor:
        stacked = torch.from_numpy(np.stack(images))
        return torch.stack([(stacked > 0).long(), stacked], dim=-1)

    metric.update(coded(founds), coded(truths))
    expected = metric.compute().flatten()[0].item()
    truth, predictions = as_coco(truths, founds)
    found = resample_counts(predictions, truth, threshold=0.5, resamples=1)["PQ"][0]
    assert found == pytest.approx(100 * expected, abs=1e-4)


def test_the_higher_score_keeps_a_pixel() -> None:
    truth = dataset([annotation(1, 10, 2, strip(0, 20))], images=1)
    under, over = prediction(10, 2, strip(0, 20), 0.6), prediction(10, 2, strip(16, 40), 0.8)
    alone = count_matches([under, over], truth, threshold=0.7)
    assert alone.true_positive.sum() == 0
    both = count_matches([under, over], truth, threshold=0.6)
    # 16 of 20 columns are left: at IoUs above 0.5 and from 0.5 to 0.8, that is 7 of 10 thresholds.
    assert both.true_positive[0].tolist() == [1] + [1] * 7 + [0] * 3
    assert both.false_positive[0].tolist() == [1] + [1] * 7 + [2] * 3
    assert both.false_negative[0].tolist() == [0] + [0] * 7 + [1] * 3
    assert both.iou.tolist() == [0.8]
    hidden = count_matches([over, prediction(10, 2, strip(20, 30), 0.7)], truth, threshold=0)
    assert set(hidden.false_positive[0]) == {1}  # what is left without pixels is no detection


def test_an_iou_of_a_half_is_a_match_but_not_of_pq() -> None:
    truth = dataset([annotation(1, 10, 2, strip(0, 20))], images=1)
    halves = [prediction(10, 2, strip(0, 10), 0.9), prediction(10, 2, strip(10, 20), 0.8)]
    found = count_matches(halves, truth, threshold=0.5)
    assert found.true_positive[0].tolist() == [0, 1] + [0] * 9
    assert found.false_positive[0].tolist() == [2, 1] + [2] * 9


def test_as_many_pairs_as_can_be_where_true_masks_overlap() -> None:
    truth = dataset(
        [annotation(1, 10, 2, strip(0, 20)), annotation(2, 10, 2, strip(4, 24))], images=1
    )
    # Its IoUs are 18/20 and 16/22; the second detection has 4/20 of the second alone.
    found = count_matches([prediction(10, 2, strip(0, 18), 0.9)], truth, threshold=0.5)
    assert found.iou.tolist() == [0.9]
    assert set(found.true_positive[0][:10]) == {1}
    assert set(found.false_negative[0][:10]) == {1}


def test_crowds_take_unmatched_detections_of_their_class() -> None:
    truth = dataset(
        [
            annotation(1, 10, 2, strip(0, 20)),
            annotation(2, 10, 2, strip(40, 90), iscrowd=1),
            annotation(3, 10, 2, strip(0, 20), iscrowd=1),
        ],
        images=1,
    )
    found = [
        prediction(10, 2, strip(0, 20), 0.9),  # matched: counts, though in a crowd
        prediction(10, 2, strip(36, 46), 0.8),  # 6 of 10 columns inside
        prediction(10, 2, strip(85, 95), 0.7),  # 5 of 10
        prediction(10, 3, strip(50, 60), 0.6),  # of another class
    ]
    counts = count_matches(found, truth, threshold=0.5)
    assert set(counts.true_positive[0]) == {1}
    assert set(counts.false_positive[0]) == {2}
    assert set(counts.false_negative[0]) == {0}


def test_classes_are_matched_apart_and_summed() -> None:
    truth = dataset(
        [annotation(1, 10, 2, strip(0, 20)), annotation(2, 10, 7, strip(40, 60))], images=2
    )
    found = [prediction(10, 7, strip(0, 20), 0.9), prediction(10, 7, strip(40, 60), 0.9)]
    counts = count_matches(found, truth, threshold=0.5)
    sums = [
        c.tolist() for c in (counts.true_positive, counts.false_positive, counts.false_negative)
    ]
    assert sums == [[[1] * 11, [0] * 11]] * 3


def test_resamples_are_of_the_images_that_ap_is_resampled_on() -> None:
    truth, predictions = random_pair(0, images=12)
    weights = draw_weights(12, resamples=5, seed=3)
    values = resample_counts(predictions, truth, threshold=0.4, resamples=5, seed=3)
    for i, counts in enumerate(weights):
        records: list[Prediction] = []
        annotations: list[dict[str, Any]] = []
        chosen = np.repeat(np.arange(10, 22), counts)
        for new, old in enumerate(chosen, start=10):
            records += [p | {"image_id": new} for p in predictions if p["image_id"] == old]
            annotations += [
                a | {"id": 0, "image_id": new} for a in truth["annotations"] if a["image_id"] == old
            ]
        copied = dataset([a | {"id": n + 1} for n, a in enumerate(annotations)], images=12)
        once = resample_counts(records, copied, threshold=0.4, resamples=1)
        for name, value in once.items():
            assert values[name][i] == pytest.approx(value[0])


def test_the_best_threshold_has_the_highest_dsb_ap() -> None:
    truth, predictions = random_pair(1)
    best = best_threshold(predictions, truth)
    values = {
        score: resample_counts(predictions, truth, threshold=score, resamples=1)["dsb_AP"][0]
        for score in np.arange(1, 100) / 100
    }
    assert values[best] == max(values.values()) > values[0.01]
    assert best == min(score for score, value in values.items() if value == values[best])
    with pytest.raises(EvaluationError, match="no object to choose a score threshold by"):
        best_threshold(predictions, truth | {"annotations": []})


def test_the_truth_itself_is_perfect_and_nothing_is_nan() -> None:
    truth, exact = dense_pair()
    found = resample_counts(exact, truth, threshold=1.0, resamples=2)
    assert {name: values[0] for name, values in found.items()} == dict.fromkeys(found, 100)
    missed = resample_counts(exact, truth, threshold=1.1, resamples=2)
    assert {values[0] for values in missed.values()} == {0}
    bare = resample_counts([], truth | {"annotations": []}, threshold=0.5, resamples=2)
    assert all(np.isnan(values).all() for values in bare.values())
