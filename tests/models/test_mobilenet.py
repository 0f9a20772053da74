"""Models on MobileNetV2: what they see is what torchvision's weights were trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

from b2inst.models import CATALOG, BasisSegmenter, create_model
from b2inst.structures import Targets

FAMILIES = ("blendmask", "yolact", "condinst")
WEIGHTS = MobileNet_V2_Weights.IMAGENET1K_V1


def create(name: str, **options: object) -> BasisSegmenter:
    model = create_model(name, num_classes=2, **options)
    assert isinstance(model, BasisSegmenter)
    return model


def size(family: str, side: int) -> dict[str, int]:
    return {"size": side} if family == "yolact" else {"shorter": side, "longer_max": 2 * side}


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A network that stands for the published one, with norms as training might leave them."""
    torch.manual_seed(0)
    network = mobilenet_v2(weights=None).eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for values in (norm.weight, norm.running_var):
                nn.init.uniform_(values, 0.5, 1.5)  # type: ignore[arg-type]
            for values in (norm.bias, norm.running_mean):
                nn.init.uniform_(values, -0.5, 0.5)  # type: ignore[arg-type]
    monkeypatch.setattr(type(WEIGHTS), "get_state_dict", lambda *_, **__: network.state_dict())
    return network


def assert_sees_as(model: BasisSegmenter, network: nn.Module) -> None:
    """The model's backbone gives the network's features of an image by torchvision's transforms."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    image = Image.fromarray(pixels).resize((224, 224), Image.Resampling.BICUBIC)
    with torch.no_grad():
        seen = model.preprocessor([model.preprocessor.resized(np.asarray(image))])
        got = model.backbone.body(seen.images)  # type: ignore[operator, union-attr]
        x = WEIGHTS.transforms(resize_size=224)(image)[None]
        torch.testing.assert_close(seen.images, x, rtol=0, atol=1e-5)
        for block, last in zip(network.features[:14], range(14), strict=True):  # type: ignore[index]
            x = block(x)
            if last in (3, 6, 13):
                stride = 224 // x.shape[-1]
                scale = float(x.abs().max())
                torch.testing.assert_close(got[stride], x, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_backbone_sees_what_torchvisions_does(
    family: str, frozen: bool, published: nn.Module
) -> None:
    model = create(
        f"{family}-mobilenetv2",
        backbone_weights="imagenet",
        frozen_norm=frozen,
        **size(family, 224),
    )
    assert_sees_as(model.eval(), published)


def test_with_the_published_weights(imagenet_files: Path) -> None:
    network = mobilenet_v2(weights=None)
    file = imagenet_files / "mobilenet_v2-b0353104.pth"
    network.load_state_dict(torch.load(file, weights_only=True))
    model = create(
        "b2inst-blendmask-mobilenetv2", backbone_weights="imagenet", **size("blendmask", 224)
    )
    assert_sees_as(model.eval(), network.eval())


def test_with_imagenet_weights_norms_are_fixed_unless_told_otherwise(
    published: nn.Module,
) -> None:
    def norms(**options: object) -> list[nn.Module]:
        body = create("blendmask-mobilenetv2", **options).backbone.body
        return [m for m in body.modules() if isinstance(m, nn.BatchNorm2d)]  # type: ignore[union-attr]

    assert not norms(backbone_weights="imagenet")
    assert norms(backbone_weights="imagenet", frozen_norm=False)
    assert norms()


@pytest.mark.parametrize("name", sorted(n for n in CATALOG if n.endswith("-mobilenetv2")))
def test_they_fit_a_laptop(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name, num_classes=2)
    assert sum(p.numel() for p in model.parameters()) < 1.5e6


@pytest.mark.parametrize("family", FAMILIES)
def test_every_part_trains_and_predicts(family: str, make_targets: Callable[..., Targets]) -> None:
    options = {"attention_size": 5} if family == "blendmask" else {}
    torch.manual_seed(0)
    model = create(
        f"b2inst-{family}-mobilenetv2",
        boundary={"fused": True},
        scoring=("boundary",),
        **size(family, 64),
        **options,
    )
    targets = make_targets((64, 64), [(16, 8, 48, 56)], [1])
    image = np.zeros((64, 64, 3), np.uint8)
    image[8:56, 16:48] = 255
    losses = model.train()([model.preprocessor.resized(image)] * 2, [targets] * 2)
    torch.stack(list(losses.values())).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert not [n for n, g in gradients.items() if g is None or not g.isfinite().all()]
    (found,) = model.eval().predict([image])
    assert found.masks.shape[1:] == (64, 64)
