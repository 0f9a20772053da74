from __future__ import annotations

import warnings

import pytest

from b2inst.experiments.runs.datasets import prepare
from b2inst.experiments.runs.preflight import check_plan
from b2inst.experiments.specs.resources import Resources
from b2inst.experiments.specs.run_spec import RunSpec
from b2inst.experiments.specs.workspace import Workspace


@pytest.mark.parametrize(("warmup", "told"), [(2, 0), (3, 1), (1000, 1)])
def test_a_warm_up_that_does_not_end_is_told_once(
    spec: RunSpec, workspace: Workspace, warmup: int, told: int
) -> None:
    schedule = spec.schedule.model_copy(update={"warmup_iterations": warmup, "iterations": 3})
    specs = [spec.model_copy(update={"schedule": schedule, "seed": seed}) for seed in (0, 1)]
    prepare(spec.data, workspace.data)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        check_plan(specs, workspace, "test", Resources(device="cpu"))
    expected = f"the warm-up of {warmup} iterations does not end in a training of 3; lower schedule"
    assert [expected in str(warning.message) for warning in found].count(True) == told
