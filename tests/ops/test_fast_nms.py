from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from b2inst.ops.fast_nms import cross_class_fast_nms, fast_nms


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    across = min(a[2], b[2]) - max(a[0], b[0])
    down = min(a[3], b[3]) - max(a[1], b[1])
    both = max(across, 0) * max(down, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def candidates(count: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    corner, size = random.uniform(0, 40, (count, 2)), random.uniform(5, 30, (count, 2))
    scores = random.permutation(count * classes).reshape(count, classes) / (count * classes)
    return np.concatenate([corner, corner + size], 1), scores


def remaining(boxes: np.ndarray, scores: np.ndarray, top: int) -> list[int]:
    """Rows of one class that no higher scored of its first ``top`` overlaps by more than half."""
    order = np.argsort(-scores)[:top]
    return [
        i for k, i in enumerate(order) if all(overlap(boxes[j], boxes[i]) <= 0.5 for j in order[:k])
    ]


cases = given(st.integers(0, 12), st.integers(1, 3), st.integers(1, 8), st.integers(0, 99))


@cases
def test_each_class_by_itself_then_the_best_of_all(
    count: int, classes: int, top: int, seed: int
) -> None:
    boxes, scores = candidates(count, classes, seed)
    found = [(i, c) for c in range(classes) for i in remaining(boxes, scores[:, c], top)]
    expected = sorted(found, key=lambda pair: -scores[pair])[:5]
    with patch("b2inst.ops.fast_nms._candidates", return_value=top):
        rows, labels = fast_nms(torch.from_numpy(boxes), torch.from_numpy(scores), most=5)
    assert list(zip(rows.tolist(), labels.tolist(), strict=True)) == expected


@cases
def test_across_classes_a_box_counts_for_its_best(
    count: int, classes: int, top: int, seed: int
) -> None:
    boxes, scores = candidates(count, classes, seed)
    best = scores.max(1) if count else np.zeros(0)
    expected = [(i, int(scores[i].argmax())) for i in remaining(boxes, best, top)]
    with patch("b2inst.ops.fast_nms._candidates", return_value=top):
        rows, labels = cross_class_fast_nms(torch.from_numpy(boxes), torch.from_numpy(scores))
    assert list(zip(rows.tolist(), labels.tolist(), strict=True)) == expected


def test_a_suppressed_box_suppresses_others() -> None:
    """Three in a row, each over the next; the last does not overlap the first."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]])
    rows, _ = fast_nms(boxes, torch.tensor([[0.9], [0.8], [0.7]]))
    assert rows.tolist() == [0]


def test_many_candidates_are_compared_part_by_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("b2inst.ops.fast_nms._PAIRS", 700)  # of 2 classes, 8 boxes with 45
    boxes, scores = candidates(45, 2, 0)
    expected = {(i, c) for c in range(2) for i in remaining(boxes, scores[:, c], 45)}
    rows, labels = fast_nms(torch.from_numpy(boxes), torch.from_numpy(scores))
    assert set(zip(rows.tolist(), labels.tolist(), strict=True)) == expected


@pytest.mark.parametrize("suppress", [fast_nms, cross_class_fast_nms])
@pytest.mark.parametrize("limit", [10, 300])
def test_the_better_of_dense_objects_do_not_use_up_the_candidates(
    suppress: Callable[..., tuple[torch.Tensor, torch.Tensor]], limit: int
) -> None:
    """Each object has seven boxes, all of which score higher than those of the next object."""
    corner = torch.arange(limit)[:, None, None] * 50.0 + torch.arange(7)[:, None]  # objects×7×1
    boxes = torch.cat([corner, corner * 0, corner + 30, corner * 0 + 30], dim=2).flatten(0, 1)
    scores = torch.linspace(1, 0.1, len(boxes))[:, None]
    rows, _ = suppress(boxes, scores, most=limit)
    assert rows.tolist() == list(range(0, 7 * limit, 7))


@pytest.mark.parametrize("suppress", [fast_nms, cross_class_fast_nms])
def test_half_an_overlap_is_allowed_and_low_scores_stay(suppress: object) -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5]])
    assert callable(suppress)
    rows, labels = suppress(boxes, torch.tensor([[1e-6], [1e-7]]))
    assert rows.tolist() == [0, 1]
    assert labels.tolist() == [0, 0]
