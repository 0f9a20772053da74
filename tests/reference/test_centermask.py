"""CenterMask against the reference fixtures, and that a value that differs is noticed."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reference.blendmask_inputs import Sample, read_samples
from reference.centermask import Outputs, compare_outputs, compute
from reference.changed import changed_arrays, leaves, other
from reference.fixtures import Case, read_case

NAME = "centermask_r50_seed0"

#: The order in which boxes were taken, which no value shows.
GIVEN = {"train_roi_sampled_0", "train_roi_sampled_1", "det0_rows", "det1_rows"}
#: Facts about the fixtures' making.
DESCRIBED = {
    "versions",
    "gt_area_dtype",
    "train_loss_dtypes",
    "train_summary.maskiou_target_dtype",
    "train_summary.proposal_boxes_require_grad_in_fcos",
    "train_summary.torch_manual_seed_before_training",
}

pytestmark = [
    pytest.mark.skipif("B2INST_REFERENCE" not in os.environ, reason="B2INST_REFERENCE is not set"),
    pytest.mark.xdist_group("centermask"),  # the model is run once
]

Computed = tuple[Case, list[Sample], Outputs]


@pytest.fixture(scope="module")
def computed() -> Computed:
    case = read_case(os.environ["B2INST_REFERENCE"], NAME)
    samples = read_samples(case)
    return case, samples, compute(case, samples, lambda _: None)


def differing(computed: Computed, **changed: dict[str, Any]) -> set[str]:
    case, samples, ours = computed
    found = compare_outputs(replace(case, **changed), samples, ours)  # type: ignore[arg-type]
    return {comparison.name for comparison in found if not comparison.passed}


def test_every_published_value_agrees(computed: Computed) -> None:
    comparisons = compare_outputs(*computed)
    assert [c for c in comparisons if not c.passed] == []
    assert {c.name for c in comparisons} >= computed[0].arrays.keys()
    described = {c.name for c in comparisons if np.isinf(c.tolerance)}
    assert described == DESCRIBED


def test_any_changed_array_is_named(computed: Computed) -> None:
    """All are changed at once: one value each."""
    changed = changed_arrays(computed[0].arrays)
    assert changed.keys() - GIVEN <= differing(computed, arrays=changed)


def test_any_changed_fact_is_named(computed: Computed) -> None:
    facts = {k: v for k, v in computed[0].facts.items() if k != "final_masks_rle"}
    bad = differing(computed, facts=other(facts) | {"final_masks_rle": [[], []]})
    for path in leaves(facts):
        if not path.startswith(tuple(DESCRIBED)):
            assert any(path.startswith(name) for name in bad), path
    assert {f"final_masks_{kind}[{i}]" for kind in ("rle", "pasted") for i in (0, 1)} <= bad


def test_missing_and_unknown_values_are_named(computed: Computed) -> None:
    case = computed[0]
    arrays = {name: v for name, v in case.arrays.items() if name != "train_attention"}
    bad = differing(computed, arrays=arrays | {"p9": np.zeros(1)}, facts=case.facts | {"more": 1})
    assert bad == {"train_attention", "p9", "more"}
