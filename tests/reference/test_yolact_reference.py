"""The published YOLACT, number for number, where the fixtures are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reference import report, verify, yolact
from reference.fixtures import Case, read_case
from reference.yolact_inputs import Sample

NAME = "yolact_r50_seed0"


@pytest.fixture(scope="module")
def ours(reference: Path) -> tuple[Case, list[Sample], yolact.Outputs]:
    """What our model computes: once, to be compared with the case and with spoilt ones."""
    kept: list[Any] = []
    compare = yolact.compare_outputs

    def keep(*arguments: Any) -> Any:
        kept.extend(arguments)
        return compare(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yolact, "compare_outputs", keep)
        comparisons = verify(reference, NAME)
    bad = [comparison for comparison in comparisons if not comparison.passed]
    assert len(comparisons) > 100
    assert not bad, f"\n{report(bad)}"
    return kept[0], kept[1], kept[2]


def test_the_published_yolact_is_ours(ours: tuple[Case, list[Sample], yolact.Outputs]) -> None:
    case, samples, outputs = ours
    compared = {comparison.name for comparison in yolact.compare_outputs(case, samples, outputs)}
    assert case.arrays.keys() <= compared


def test_a_changed_number_is_noticed(ours: tuple[Case, list[Sample], yolact.Outputs]) -> None:
    """One in every array, and every loss by a ten-thousandth."""
    case, samples, outputs = ours
    arrays = {name: np.array(values) for name, values in case.arrays.items()}
    for values in arrays.values():
        values.flat[0] = values.flat[0] + 1
    train = {
        run: {**found, "losses": {name: loss * 1.0001 for name, loss in found["losses"].items()}}
        for run, found in case.facts["train"].items()
    }
    changed = Case(**(vars(case) | {"arrays": arrays, "facts": case.facts | {"train": train}}))
    bad = {c.name for c in yolact.compare_outputs(changed, samples, outputs) if not c.passed}
    losses = {f"train.{run}.losses.{name}" for run in train for name in train[run]["losses"]}
    assert len(losses) == 12
    assert losses <= bad
    assert arrays.keys() <= bad


def test_inputs_that_contradict_each_other_are_told(reference: Path) -> None:
    case = read_case(reference, NAME)
    inputs = case.inputs | {"gt_0": case.inputs["gt_0"][::-1].copy()}
    bad = yolact.verify(Case(**(vars(case) | {"inputs": inputs})), lambda _: None)
    assert [c.name for c in bad if not c.passed] == ["gt_0"]
    assert len(bad) < 30
