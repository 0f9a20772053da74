"""AP under other rankings against the evaluator run on detections with those scores."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from b2inst.evaluation import evaluate
from b2inst.experiments.tables.score_quality import (
    ap_by_ranking,
    oracle_rankings,
    rate,
)

from ...evaluation.conftest import random_pair


@pytest.mark.parametrize("seed", range(3))
def test_equals_evaluating_with_those_scores(seed: int) -> None:
    truth, predictions = random_pair(seed, images=25, crowds=0.1)
    rng = np.random.default_rng(seed)
    rankings = {name: rng.random(len(predictions)) for name in ("a", "b", "c")}
    rankings["as it is"] = np.array([p["score"] for p in predictions])
    found = ap_by_ranking(predictions, truth, rankings)
    for name, scores in rankings.items():
        records = [p | {"score": s} for p, s in zip(predictions, scores.tolist(), strict=True)]
        expected = evaluate(records, truth)
        assert found["AP"][name] == pytest.approx(expected["AP"], abs=1e-9)
        assert found["boundary_AP"][name] == pytest.approx(expected["boundary_AP"], abs=1e-9)
    assert len(set(found["AP"].values())) == 4


def test_without_ground_truth_or_detections() -> None:
    truth, predictions = random_pair(0, images=4)
    rankings = {"a": np.ones(len(predictions))}
    bare = ap_by_ranking(predictions, truth | {"annotations": []}, rankings)
    assert bare == {"AP": {"a": None}, "boundary_AP": {"a": None}}
    empty = ap_by_ranking([], truth, {"a": np.zeros(0)})
    assert empty == {"AP": {"a": 0.0}, "boundary_AP": {"a": 0.0}}


def ratings(*branches: str) -> pd.DataFrame:
    columns = {"class": [0.5, 1.0], "mask": [0.1, 0.2], "of_object": [True, False]}
    columns |= {"true_iou": [0.49, 0.0], "true_boundary": [0.81, 0.0]}
    return pd.DataFrame(columns | {name: [0.25, 0.36] for name in branches})


def test_rankings_of_a_head_of_both_branches() -> None:
    found = oracle_rankings(ratings("iou", "boundary"))
    assert found["class"].tolist() == [0.5, 1.0]
    assert found["predicted"].tolist() == [0.1, 0.2]
    assert found["true_iou"] == pytest.approx([0.5 * np.sqrt(0.49 * 0.25), 0])
    assert found["true_boundary"] == pytest.approx([0.5 * np.sqrt(0.25 * 0.81), 0])
    assert found["oracle"] == pytest.approx([0.5 * 0.7 * 0.9, 0])


def test_rankings_of_a_head_of_one_branch() -> None:
    found = oracle_rankings(ratings("boundary"))
    assert list(found) == ["class", "predicted", "true_boundary", "oracle"]
    assert found["oracle"] == pytest.approx([0.5 * 0.81, 0])
    np.testing.assert_array_equal(found["oracle"], found["true_boundary"])


def test_the_oracle_ranks_better_masks_first() -> None:
    truth, predictions = random_pair(1, images=40)
    scored = [p | {"iou_score": 0.5, "boundary_score": 0.5} for p in predictions]
    found = ap_by_ranking(scored, truth, oracle_rankings(rate(scored, truth)))
    for values in found.values():
        assert all(v is not None for v in values.values())
        assert values["oracle"] > 1.5 * values["class"]  # type: ignore[operator]
