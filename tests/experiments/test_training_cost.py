"""The script that measures what a training step costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import pytest
import torch

import b2inst


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("training_cost")


def test_objects_are_discs_in_their_boxes(script: ModuleType) -> None:
    images, targets = script.noise_with_discs(script.Case("blendmask-r18", 200, 300, batch=2))
    assert [image.shape for image in images] == [(3, 200, 300)] * 2
    for target in targets:
        for box, mask, diameter in zip(target.boxes, target.masks, script.DIAMETERS, strict=True):
            radius = diameter / 2 * 200 / 800
            assert int(mask.sum()) == pytest.approx(math.pi * radius**2, rel=0.15)
            rows, columns = mask.nonzero(as_tuple=True)
            tight = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            assert (box - tight).abs().max() <= 1
        assert torch.equal(target.semantic > 0, target.masks.amax(0) > 0)


def test_a_case_is_measured(script: ModuleType) -> None:
    case = script.Case("blendmask-r18", 64, 64, recompute=True)
    cost = script.measure(case, "cpu")
    with torch.device("meta"):
        model = b2inst.create_model("blendmask-r18", num_classes=80, frozen_norm=True)
    parameters = sum(p.numel() for p in model.parameters())
    assert cost["parameters_m"] == pytest.approx(parameters / 1e6, abs=0.1)
    # Weights once, and momentum of those that are trained.
    assert parameters * 4e-6 < cost["weights_and_momentum_mb"] <= parameters * 8.1e-6
    assert cost["step_mb"] > parameters * 3e-6  # gradients at least, but of the frozen stem
    assert min(cost["gflops"], cost["wall_seconds"], cost["cpu_seconds"]) > 0


def test_every_case_can_be_built(script: ModuleType) -> None:
    for name in {case.model for case in script.CASES}:
        with torch.device("meta"):
            b2inst.create_model(name, num_classes=80, frozen_norm=True)
