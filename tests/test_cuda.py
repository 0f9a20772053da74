"""Every model trains and predicts on a real GPU: what ``make gpu`` runs first."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from test_pretended_cuda import MODELS, build, predict, train_step

from b2inst.models import TwoStageSegmenter
from b2inst.structures import Targets

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]
DEVICE = "cuda"


@pytest.fixture(autouse=True)
def _whole_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    """No TF32, so that numbers can be compared with the CPU's."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_a_training_step_has_the_losses_of_the_cpu(
    case: str, autocast: bool, make_targets: Callable[..., Targets]
) -> None:
    model = build(case)
    expected = train_step(copy.deepcopy(model), make_targets)
    with torch.autocast(DEVICE, dtype=torch.bfloat16, enabled=autocast):
        found = train_step(model.to(DEVICE), make_targets)
    assert found.keys() == expected.keys()
    if not isinstance(model, TwoStageSegmenter):  # their samples are drawn on the device
        assert found == pytest.approx(expected, rel=0.1 if autocast else 1e-3, abs=0.01)


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_prediction_has_the_scores_of_the_cpu(case: str, precision: str) -> None:
    model = build(case)
    expected = predict(model)
    model.to(DEVICE).precision = precision
    model.optimised = True
    for found, known in zip(predict(model), expected, strict=True):
        assert abs(len(found) - len(known)) <= (0 if precision == "float32" else 3)
        count = min(len(found), len(known))
        close = {"rtol": 0, "atol": 1e-3 if precision == "float32" else 0.05}
        torch.testing.assert_close(found.scores[:count].cpu(), known.scores[:count], **close)


@pytest.mark.parametrize("family", ["blendmask", "yolact", "condinst"])
def test_a_compiled_backbone_gives_the_same_features(family: str) -> None:
    model = build(f"resnet-{family}").to(DEVICE).eval()
    images = torch.rand(1, 3, 96, 128, device=DEVICE)
    with torch.inference_mode():
        expected, found = model.backbone(images), torch.compile(model.backbone)(images)
    for stride, features in expected.items():
        torch.testing.assert_close(found[stride], features, rtol=1e-3, atol=1e-3)
