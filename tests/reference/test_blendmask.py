from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference.blendmask import Outputs, compare_outputs
from reference.blendmask_inputs import Sample
from reference.fixtures import Case


@pytest.fixture
def ours(computed: tuple[Path, Outputs]) -> Outputs:
    return computed[1]


def _differing(case: Case, samples: list[Sample], ours: Outputs) -> set[str]:
    return {c.name for c in compare_outputs(case, samples, ours) if not c.passed}


def test_the_same_values_agree(case: Case, samples: list[Sample], ours: Outputs) -> None:
    comparisons = compare_outputs(case, samples, ours)
    assert [c for c in comparisons if not c.passed] == []
    assert {c.name for c in comparisons} >= case.arrays.keys()
    assert min(len(found["boxes"]) for found in ours.predictions.detections) > 8


def _beyond_tolerance(values: np.ndarray, name: str) -> np.ndarray:
    """One value changed by twice its tolerance."""
    change: Any = 1
    if values.dtype.kind == "f":
        absolute = {"boxes": 2e-2, "scores": 2e-4}.get(name.split("_")[-1], 0.0)
        change = absolute or 2e-4 * np.abs(values).max()
    return _shifted(values, change)


def _shifted(values: np.ndarray, change: float) -> np.ndarray:
    shifted = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
    shifted.flat[np.random.default_rng(0).integers(values.size)] += change
    return shifted


#: Other damage, of which each array gets one.
DAMAGE: list[Callable[[np.ndarray], np.ndarray]] = [
    lambda values: _shifted(values, 100 + 10 * int(np.abs(values).max())),
    lambda values: _shifted(values.astype(np.float64), np.nan),
    lambda values: _shifted(values.astype(np.float64), np.inf),
    lambda values: values[:-1],
    lambda values: values[..., None],
    lambda values: values.astype(str),
]


def test_any_changed_array_is_named(case: Case, samples: list[Sample], ours: Outputs) -> None:
    for k, (name, values) in enumerate(case.arrays.items()):
        for changed in (_beyond_tolerance(values, name), DAMAGE[k % len(DAMAGE)](values)):
            bad = _differing(replace(case, arrays=case.arrays | {name: changed}), samples, ours)
            assert name in bad
            # What is counted in it or pasted from it may differ too; nothing else.
            derived = ("detections_summary", "final_masks", name.replace("det", "final")[:6])
            assert [b for b in bad if b != name and not b.startswith((*derived, name[:4]))] == []


def test_missing_and_unknown_arrays_are_named(
    case: Case, samples: list[Sample], ours: Outputs
) -> None:
    bad = _differing(replace(case, arrays={}), samples, ours)
    assert {re.sub(r"_s(tride)?\d+$", "", name) for name in case.arrays} <= bad
    more = case.arrays | {"det2_boxes": np.zeros((1, 4)), "p9": np.zeros((2, 256, 1, 1))}
    assert _differing(replace(case, arrays=more), samples, ours) == {"det2_boxes", "p9"}


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if isinstance(value, dict | list):
        entries = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in entries:
            yield from _leaves(inner, (*path, key))
    else:
        yield path, value


def _changed(facts: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    other = copy.deepcopy(facts)
    place: Any = other
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return other


def _shown(path: tuple[Any, ...]) -> str:
    return "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in path).removeprefix(".")


def test_any_changed_fact_is_named(case: Case, samples: list[Sample], ours: Outputs) -> None:
    leaves = list(_leaves(case.facts))
    grads = [leaf for leaf in leaves if leaf[0][0] == "grad_norms"]
    codes = [leaf for leaf in leaves if leaf[0][0] == "final_masks_rle"]
    every = [leaf for leaf in leaves if leaf not in grads and leaf not in codes]
    for path, value in every + grads[::40] + codes[::60]:
        other = value + "0" if isinstance(value, str) else value * 1.01 + 0.001
        if isinstance(value, int):
            other = value + 1
        facts = _changed(case.facts, path, other)
        bad = _differing(replace(case, facts=facts), samples, ours)
        assert any(_shown(path).startswith(name) for name in bad), path
        assert len(bad) <= 3


def test_the_worst_gradient_norm_is_named(case: Case, samples: list[Sample], ours: Outputs) -> None:
    name = list(case.facts["grad_norms"])[70]
    facts = _changed(case.facts, ("grad_norms", name), 2 * case.facts["grad_norms"][name])
    (bad,) = (c for c in compare_outputs(replace(case, facts=facts), samples, ours) if not c.passed)
    assert name in bad.note


def test_missing_and_unknown_facts_are_named(
    case: Case, samples: list[Sample], ours: Outputs
) -> None:
    bad = _differing(replace(case, facts={}), samples, ours)
    assert case.facts.keys() <= {re.split(r"[.\[]", name)[0] for name in bad}
    more = _changed(case.facts, ("train_losses_bitmask", "loss_new"), 0.0) | {"more": [{"a": 1}]}
    assert _differing(replace(case, facts=more), samples, ours) == {
        "train_losses_bitmask.loss_new",
        "more",
    }


def test_order_among_detections_matters_unless_scores_are_equal(
    case: Case, samples: list[Sample], ours: Outputs
) -> None:
    order = np.arange(len(case.arrays["det0_boxes"]))
    order[[0, 1]] = 1, 0
    moved = {n: v[order] for n, v in case.arrays.items() if n.startswith("det0_") and len(v) > 8}
    moved["det0_roi_bases_first8"] = case.arrays["det0_roi_bases_first8"][order[:8]]
    index = case.arrays["final0_det_index"].copy()
    moved["final0_det_index"] = np.where(index < 2, 1 - index, index)
    bad = _differing(replace(case, arrays=case.arrays | moved), samples, ours)
    assert bad == {"det0_scores"}
