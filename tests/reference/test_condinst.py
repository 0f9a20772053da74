"""CondInst against the reference fixtures, and what is noticed when one of their values differs."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference import Comparison, VerificationError, verify
from reference.blendmask_inputs import Sample, read_samples
from reference.changed import changed_arrays, leaves, other
from reference.condinst import Outputs, compare_outputs, compute
from reference.fixtures import Case, read_case

NAME = "condinst_r50_seed0"

pytestmark = [
    pytest.mark.skipif("B2INST_REFERENCE" not in os.environ, reason="B2INST_REFERENCE is not set"),
    pytest.mark.xdist_group("condinst"),  # the model is run once
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
    comparisons: list[Comparison] = compare_outputs(*computed)
    assert [c for c in comparisons if not c.passed] == []
    case = computed[0]
    assert {c.name for c in comparisons} >= case.arrays.keys()
    described = {c.name for c in comparisons if np.isinf(c.tolerance)}
    assert described == {"variant_max40_random.note"}


def test_any_changed_array_is_named(computed: Computed) -> None:
    """All are changed at once: one value each, by twice its tolerance."""
    changed = changed_arrays(computed[0].arrays)
    bad = differing(computed, arrays=changed)
    # A random position that was not drawn shows in the loss, unless it is no positive at all.
    assert changed.keys() - {"variant_max40_used_pos_inds"} <= bad
    assert bad & {"variant_max40_used_pos_inds", "variant_max40_random.losses"}


def test_any_changed_fact_is_named(computed: Computed) -> None:
    facts = {k: v for k, v in computed[0].facts.items() if k != "final_masks_rle"}
    bad = differing(computed, facts=other(facts) | {"final_masks_rle": [[], []]})
    for path in leaves(facts):
        if not path.endswith(".note"):
            assert any(path.startswith(name) for name in bad), path
    assert {f"final_masks_{kind}[{i}]" for kind in ("rle", "of_logits") for i in (0, 1)} <= bad


def test_missing_and_unknown_values_are_named(computed: Computed) -> None:
    case = computed[0]
    arrays = {name: v for name, v in case.arrays.items() if name != "train_mask_feats"}
    bad = differing(computed, arrays=arrays | {"p9": np.zeros(1)}, facts=case.facts | {"more": 1})
    assert bad == {"train_mask_feats", "p9", "more"}


def test_the_spec_of_the_semantic_variant_must_be_there(tmp_path: Path) -> None:
    folder = Path(os.environ["B2INST_REFERENCE"])
    for name in ("blendmask_inputs.npz", "blendmask_inputs.json", "condinst_r50_spec.json"):
        (tmp_path / name).symlink_to(folder / name)
    for name in (f"{NAME}.npz", f"{NAME}.json"):
        (tmp_path / name).symlink_to(folder / name)
    with pytest.raises(VerificationError, match=r"condinst_r50_sem_spec\.json: no such file"):
        verify(tmp_path, NAME)
