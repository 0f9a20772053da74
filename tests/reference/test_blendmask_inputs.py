from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

from reference.blendmask_inputs import compare_inputs, read_samples
from reference.fixtures import Case


def _differing(case: Case) -> set[str]:
    return {c.name for c in compare_inputs(case, read_samples(case)) if not c.passed}


def test_the_same_inputs_agree(case: Case) -> None:
    assert _differing(case) == set()


def test_any_changed_array_is_named(case: Case) -> None:
    for name, values in case.inputs.items():
        other = values.copy()
        place = np.random.default_rng(0).integers(values.size)
        value = values.flat[place]
        other.flat[place] = value + 0.02 if values.dtype.kind == "f" else (int(value) + 100) % 256
        if name.startswith("gt_classes"):
            other.flat[place] = (values.flat[place] + 1) % 5
        assert name in _differing(replace(case, inputs=case.inputs | {name: other}))


def test_missing_facts_and_unknown_values_are_named(case: Case) -> None:
    inputs = case.inputs | {"gt_boxes_2": np.zeros((1, 4))}
    assert _differing(replace(case, inputs=inputs)) == {"gt_boxes_2"}
    images = copy.deepcopy(case.images)
    images[0]["crowd"] = 1
    del images[1]["n_gt"]
    assert _differing(replace(case, images=images)) == {"images[0].crowd", "images[1].n_gt"}


@pytest.mark.parametrize("name", ["orig_hw", "resized_hw", "n_gt", "polygons_in_resized_xy"])
def test_any_changed_fact_is_named(case: Case, name: str) -> None:
    images = copy.deepcopy(case.images)
    if name == "n_gt":
        images[1][name] += 1
    elif name == "polygons_in_resized_xy":
        images[1][name][2][0][4] += 5
    else:
        images[1][name][0] += 1
    assert f"images[1].{name}" in _differing(replace(case, images=images))
