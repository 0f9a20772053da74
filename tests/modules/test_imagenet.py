from __future__ import annotations

from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision.models import ResNet18_Weights, resnet18

from b2inst.modules.imagenet import BackboneWeightsError, load_imagenet
from b2inst.modules.resnet_fpn import ResNetFPN


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
