"""Every model trains and predicts on a CUDA device, as far as can be told without one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from pretended_cuda import CUDA, PretendedCuda
from torch import Tensor

from b2inst.evaluation.predictions import to_records
from b2inst.models import BasisSegmenter, ImageSegmenter, create_model
from b2inst.models.oracle import OracleSegmenter
from b2inst.structures import Instances, Targets
from b2inst.training import Schedule

_R18 = {"backbone": "resnet18", "shorter": 64, "longer_max": 96}

#: Families, and the parts that a model can be put together from.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "blendmask": ("blendmask-tiny", {}),
    "b2inst-blendmask": ("b2inst-blendmask-tiny", {}),
    "gated-blendmask": ("gated-convs-blendmask-tiny", {}),
    "mobilenet-blendmask": ("b2inst-blendmask-mobilenetv2", {"shorter": 64, "longer_max": 96}),
    "resnet-blendmask": ("b2inst-blendmask-r50", _R18 | {"frozen_norm": True}),
    "local": ("blendmask-tiny", {"boundary": {"local": True, "as_basis": False}}),
    "fused": ("blendmask-tiny", {"boundary": {"fused": True}}),
    "shared": ("blendmask-tiny", {"boundary": {"branch_channels": 0, "two_sided": True}}),
    "oracle": ("blendmask-tiny", {"oracle": {"as_basis": True}, "scoring": ("iou",)}),
    "yolact": ("yolact-tiny", {}),
    "b2inst-yolact": ("b2inst-yolact-tiny", {}),
    "gated-yolact": ("gated-yolact-tiny", {}),
    "mobilenet-yolact": ("b2inst-yolact-mobilenetv2", {"size": 96}),
    "resnet-yolact": ("b2inst-yolact-r50", {"backbone": "resnet18", "size": 96}),
    "condinst": ("condinst-tiny", {}),
    "b2inst-condinst": ("b2inst-condinst-tiny", {"best_per_image": 4}),
    "gated-condinst": ("gated-condinst-tiny", {}),
    "mobilenet-condinst": ("b2inst-condinst-mobilenetv2", {"shorter": 64, "longer_max": 96}),
    "resnet-condinst": ("b2inst-condinst-r50", _R18 | {"semantic": True}),
    "mask-rcnn": ("maskrcnn-tiny", {}),
    "ms-rcnn": ("ms-rcnn-tiny", {}),
    "bmask-rcnn": ("bmask-rcnn-tiny", {}),
    "resnet-mask-rcnn": ("maskrcnn-r50", _R18),
}


def build(case: str) -> ImageSegmenter:
    name, options = MODELS[case]
    torch.manual_seed(0)
    model = create_model(name, num_classes=3, max_detections=12, **options)
    head = model._limited
    head.score_threshold = 0.0  # type: ignore[attr-defined]  # fresh weights find nothing else
    return model


def example(make_targets: Callable[..., Targets]) -> tuple[list[Tensor], list[Targets]]:
    """Two images for training, the second without objects."""
    images = torch.randint(0, 256, (2, 3, 96, 96), generator=torch.manual_seed(1)).byte()
    boxes = [(4, 8, 40, 50), (30, 20, 90, 80), (60, 60, 72, 70)]
    return list(images), [
        make_targets((96, 96), boxes, labels=[0, 1, 2]),
        make_targets((96, 96), [], image_id=1),
    ]


def train_step(model: ImageSegmenter, make_targets: Callable[..., Targets]) -> dict[str, float]:
    """One iteration, as the training loop does it."""
    device = next(model.parameters()).device
    images, targets = example(make_targets)
    optimizer, scheduler = Schedule(learning_rate=1e-3, iterations=2).optimizer_for(model.train())
    torch.manual_seed(2)
    losses = model(images, [target.to(device) for target in targets])
    assert {loss.device for loss in losses.values()} == {device}
    total = torch.stack(list(losses.values())).sum()
    assert total.isfinite()
    total.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    return {name: loss.item() for name, loss in losses.items()}


def predict(model: ImageSegmenter) -> list[Instances]:
    """Two images, the second of another size, into records as evaluation writes them."""
    device = next(model.parameters()).device
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((48, 64), (80, 60))]
    if isinstance(model, OracleSegmenter):
        truths = [torch.ones(1, *image.shape[:2], dtype=torch.uint8) for image in images]
        found = model.eval().predict_told(images, truths)
    else:
        found = model.eval().predict(images)
    for instances in found:
        values = [value for value in vars(instances).values() if isinstance(value, Tensor)]
        assert {value.device for value in values} == {device}
        to_records(1, instances, [1, 2, 3])
    return found


@pytest.mark.parametrize("case", MODELS)
def test_a_model_trains_as_on_the_cpu(case: str, make_targets: Callable[..., Targets]) -> None:
    model = build(case)
    expected = train_step(copy.deepcopy(model), make_targets)
    with PretendedCuda():
        moved = model.to("cuda")
        assert train_step(moved, make_targets) == pytest.approx(expected)
        assert {p.grad.device for p in moved.parameters() if p.grad is not None} == {CUDA}


@pytest.mark.parametrize("case", MODELS)
def test_a_model_predicts_as_on_the_cpu(case: str) -> None:
    model = build(case)
    expected = predict(model)
    assert any(len(instances) for instances in expected)
    with PretendedCuda():
        moved = model.to("cuda")
        for found, known in zip(predict(moved), expected, strict=True):
            torch.testing.assert_close(found.to("cpu").scores, known.scores)
            assert torch.equal(found.masks.cpu(), known.masks)
        moved._limited.score_threshold = 2.0  # type: ignore[attr-defined]
        assert not any(map(len, predict(moved)))
