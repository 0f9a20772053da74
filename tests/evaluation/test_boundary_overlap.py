"""The boundary IoUs that matter, against the evaluator that takes all of them."""

from __future__ import annotations

import numpy as np
import pytest

from b2inst.evaluation import boundary_overlap
from b2inst.evaluation.average_precision import load_pair, run_evaluator
from b2inst.evaluation.boundary_overlap import boundary_overlaps

from .conftest import random_pair


def test_equal_to_the_evaluators_wherever_something_can_match(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truth, chosen = load_pair(*reversed(random_pair(3, images=20, crowds=0.2)))
    taken: list[int] = []

    def counted(truth, predictions, **options):  # type: ignore[no-untyped-def]
        taken.append(len(predictions))
        return run_evaluator(truth, predictions, **options)

    monkeypatch.setattr(boundary_overlap, "run_evaluator", counted)
    masks = run_evaluator(truth, chosen, kind="segm")
    expected = run_evaluator(truth, chosen, kind="boundary", boundary_dilation=0.03).ious
    found = boundary_overlaps(masks, chosen, boundary_dilation=0.03)
    assert taken[0] < 0.8 * len(chosen), "boundaries are taken of what can match only"
    assert found.keys() == expected.keys()
    smaller = 0
    for pair, overlap in expected.items():
        if len(overlap):
            can_match = np.max(masks.ious[pair], axis=1) >= 0.5
            np.testing.assert_array_equal(found[pair][can_match], overlap[can_match])
            assert (found[pair][~can_match] < 0.5).all()
            smaller += (found[pair] < np.asarray(masks.ious[pair])).sum()
    assert smaller > 10, "boundary IoUs were the smaller ones somewhere"
