"""An optimised copy predicts what the model predicts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from b2inst.inference import WinogradConv, optimise_for_inference
from b2inst.models import CATALOG, BasisSegmenter, create_model
from b2inst.modules.mobilenet_fpn import MobileNetFPN
from b2inst.modules.resnet_fpn import ResNetFPN

NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


def _drawn(module: nn.Module) -> nn.Module:
    """In evaluation mode, its batch norms as training might leave them."""
    generator = torch.Generator().manual_seed(1)
    for norm in module.modules():
        if isinstance(norm, NORMS):
            for name, low, high in (
                ("weight", 0.5, 1.5),
                ("bias", -0.5, 0.5),
                ("running_mean", -0.5, 0.5),
                ("running_var", 0.5, 2.0),
            ):
                getattr(norm, name).data.uniform_(low, high, generator=generator)
    return module.eval()


def _close(one: Tensor, other: Tensor) -> bool:
    """Within what Winograd's transforms lose over a network's layers."""
    return bool((one - other).abs().max() <= 1e-4 * other.abs().max())


@pytest.mark.parametrize("name", sorted(n for n in CATALOG if n.endswith("-tiny")))
def test_every_family_keeps_its_maps(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, num_classes=3)
    _drawn(model)
    fast = optimise_for_inference(model)
    assert not any(isinstance(m, NORMS) for part in (fast.backbone,) for m in part.modules())
    assert any(isinstance(m, WinogradConv) for m in fast.modules())
    image = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features, expected = fast.backbone(image), model.backbone(image)
        assert features.keys() == expected.keys()
        assert all(_close(features[stride], expected[stride]) for stride in expected)
        ours, theirs = (
            of.basis_head(maps).maps
            if isinstance(of, BasisSegmenter)
            else of.mask_head(maps, [torch.tensor([[9.0, 5, 120, 180]])]).logits
            for of, maps in ((fast, features), (model, expected))
        )
        assert _close(ours, theirs)


@pytest.mark.parametrize(
    "backbone",
    [
        partial(ResNetFPN, resnet="resnet18", frozen_norm=False),
        partial(ResNetFPN, resnet="resnet50", frozen_norm=True),
        partial(MobileNetFPN, frozen_norm=False),
        partial(MobileNetFPN, frozen_norm=True),
    ],
)
def test_backbones_keep_their_maps(backbone: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = create_model("blendmask-r18", num_classes=3)
    model.backbone = backbone()
    _drawn(model)
    fast = optimise_for_inference(model)
    assert not any(isinstance(m, NORMS) for m in fast.backbone.modules())
    image = torch.rand(1, 3, 128, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features, expected = fast.backbone(image), model.backbone(image)
    assert all(_close(features[stride], expected[stride]) for stride in expected)


def _finding(name: str) -> BasisSegmenter:
    """A small model with a dozen detections in any image, far from its threshold."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=3)
    _drawn(model)
    head = model.instance_head
    nn.init.zeros_(head.class_logits.bias)  # type: ignore[attr-defined]
    nn.init.constant_(head.distances.bias, 1.5)  # type: ignore[attr-defined]
    nn.init.normal_(head.distances.weight, std=0.1)  # type: ignore[attr-defined]
    nn.init.normal_(head.class_logits.weight, std=0.1)  # type: ignore[attr-defined]
    head.max_detections = 12  # type: ignore[attr-defined]
    return model


def test_predictions_are_the_same() -> None:
    model = _finding("b2inst-blendmask-tiny")
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8)
    image = image[::8, ::8].repeat(8, 0).repeat(8, 1)
    (expected,) = model.predict([image])
    (found,) = optimise_for_inference(model).predict([image])
    assert len(found) == len(expected) >= 12
    same = torch.cdist(expected.boxes, found.boxes).argmin(1)  # the order may differ by rounding
    found = found[same]
    assert torch.equal(found.labels, expected.labels)
    assert torch.allclose(found.boxes, expected.boxes, atol=1e-2)
    assert torch.allclose(found.scores, expected.scores, atol=1e-4)
    assert (found.masks != expected.masks).float().mean() < 1e-3


def test_the_model_itself_stays_as_it_was() -> None:
    model = create_model("blendmask-tiny", num_classes=3).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimise_for_inference(model)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_model_in_training_is_refused() -> None:
    with pytest.raises(RuntimeError, match="eval"):
        optimise_for_inference(create_model("blendmask-tiny", num_classes=3))


def test_without_nnpack_the_convolutions_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.nnpack, "is_available", lambda: False)
    fast = optimise_for_inference(create_model("blendmask-tiny", num_classes=3).eval())
    assert not any(isinstance(module, WinogradConv) for module in fast.modules())


@pytest.mark.parametrize("side", [12, 64])
def test_winograd_is_the_convolution(side: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(24, 16, 3, padding=1)
    x = torch.randn(2, 24, side, side + 3).transpose(2, 3)  # whatever the layout
    exact = copy.deepcopy(conv).double()(x.double()).detach()
    with torch.inference_mode():
        assert _close(WinogradConv(conv)(x).double(), exact)


def test_other_number_formats_are_left_to_the_convolution() -> None:
    conv = nn.Conv2d(8, 8, 3, padding=1)
    with torch.inference_mode():
        x = torch.randn(1, 8, 40, 40)
        wide = WinogradConv(conv.double())(x.double())
        assert torch.equal(wide, conv(x.double()))
        conv.float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert WinogradConv(conv)(x).dtype == torch.bfloat16
