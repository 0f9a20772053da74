"""The script that compares training steps of Table 4's methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import pytest
import torch

import b2inst


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    load_script("training_cost")  # which it imports
    return load_script("step_cost")


def test_every_model_can_be_built(script: ModuleType) -> None:
    assert {base for base in script.BASES.values() if base} <= script.BASES.keys()
    for name in script.BASES.keys() - {script.TORCHVISION}:
        with torch.device("meta"):
            b2inst.create_model(name, num_classes=80, frozen_norm=True)


@pytest.mark.parametrize("name", ["maskrcnn-r50", "torchvision's Mask R-CNN"])
def test_a_step_trains_all_but_the_first_stage(
    script: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizers = []
    sgd = torch.optim.SGD
    monkeypatch.setattr(
        torch.optim, "SGD", lambda *a, **k: optimizers.append(sgd(*a, **k)) or optimizers[-1]
    )
    images, targets = script.noise_with_discs(replace(script.B2INST, height=128, width=128))
    script._step(name, images, targets)()
    (optimizer,) = optimizers
    momenta = [state["momentum_buffer"] for state in optimizer.state.values()]
    trained = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert sum(momentum.numel() for momentum in momenta) == trained
    # ResNet-50 without its stem and first stage, the pyramid, and the heads of two-stage models.
    assert 40e6 < trained < 46e6
    assert all(bool(momentum.isfinite().all()) for momentum in momenta)
