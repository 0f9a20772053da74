from __future__ import annotations

from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision.models import ResNet18_Weights, resnet18
from torchvision.ops import FrozenBatchNorm2d

from b2inst.modules.imagenet import BackboneWeightsError, load_imagenet
from b2inst.modules.resnet_fpn import ResNetFPN
from b2inst.modules.tiny_fpn import TinyFPN


def shapes(features: dict[int, torch.Tensor]) -> dict[int, tuple[int, ...]]:
    return {stride: tuple(feature.shape) for stride, feature in features.items()}


def test_pyramid_of_a_resnet() -> None:
    """Sides need only be multiples of 32: the two coarsest levels round up."""
    with torch.no_grad():
        got = shapes(
            ResNetFPN(resnet="resnet18", frozen_norm=False, channels=16)(torch.rand(1, 3, 96, 160))
        )
    assert got == {
        8: (1, 16, 12, 20),
        16: (1, 16, 6, 10),
        32: (1, 16, 3, 5),
        64: (1, 16, 2, 3),
        128: (1, 16, 1, 2),
    }
    assert list(got) == sorted(got)


def test_tiny_pyramid() -> None:
    got = shapes(TinyFPN(widths=(4, 4, 8, 8, 8), channels=6)(torch.rand(2, 3, 64, 96)))
    assert got == {4: (2, 6, 16, 24), 8: (2, 6, 8, 12), 16: (2, 6, 4, 6), 32: (2, 6, 2, 3)}


def test_frozen_norm_also_freezes_the_stem_and_the_first_stage() -> None:
    frozen = ResNetFPN(resnet="resnet18", frozen_norm=True)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in frozen.modules())
    assert any(isinstance(m, FrozenBatchNorm2d) for m in frozen.modules())
    still = {name.split(".")[1] for name, p in frozen.named_parameters() if not p.requires_grad}
    assert still == {"conv1", "layer1"}
    trained = ResNetFPN(resnet="resnet18", frozen_norm=False)
    assert all(p.requires_grad for p in trained.parameters())


def test_msra_weights_want_the_stride_in_the_first_convolution() -> None:
    with torch.device("meta"):
        body = ResNetFPN(resnet="resnet50", frozen_norm=True, stride_in_1x1=True).body
    for stage in ("layer2", "layer3", "layer4"):
        first = body[stage][0]
        assert (first.conv1.stride, first.conv2.stride) == ((2, 2), (1, 1))
        assert first.downsample[0].stride == (2, 2)
    with pytest.raises(ValueError, match="resnet50 or resnet101"):
        ResNetFPN(resnet="resnet18", frozen_norm=True, stride_in_1x1=True)


@pytest.mark.parametrize("frozen", [True, False])
def test_imagenet_weights_fill_the_whole_body(
    frozen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    published = resnet18(weights=None).state_dict()
    monkeypatch.setattr(
        type(ResNet18_Weights.IMAGENET1K_V1), "get_state_dict", lambda *_, **__: published
    )
    body = ResNetFPN(resnet="resnet18", frozen_norm=frozen).body
    load_imagenet(body, "resnet18", "imagenet")
    own = body.state_dict()
    assert set(published) - set(own) <= {"fc.weight", "fc.bias"} | {
        name for name in published if name.endswith("num_batches_tracked")
    }
    assert all(value.equal(published[name]) for name, value in own.items())


def test_weights_that_cannot_be_had_come_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(type(ResNet18_Weights.IMAGENET1K_V1), "get_state_dict", fail)
    body = nn.Sequential()
    with pytest.raises(BackboneWeightsError, match=r"no route to host.*backbone_weights=None"):
        load_imagenet(body, "resnet18", "imagenet")
    with pytest.raises(BackboneWeightsError, match="'coco': choose 'imagenet' or None"):
        load_imagenet(body, "resnet18", "coco")


def test_weights_of_another_resnet_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    published = resnet18(weights=None).state_dict()
    del published["layer3.0.conv1.weight"]
    monkeypatch.setattr(
        type(ResNet18_Weights.IMAGENET1K_V1), "get_state_dict", lambda *_, **__: published
    )
    body = ResNetFPN(resnet="resnet18", frozen_norm=True).body
    with pytest.raises(BackboneWeightsError, match=r"layer3\.0\.conv1\.weight"):
        load_imagenet(body, "resnet18", "imagenet")
