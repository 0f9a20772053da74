from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision.models import ResNet18_Weights, mobilenet_v2, resnet18

from b2inst.modules.backbones import BackboneWeightsError, ResNetFPN, load_imagenet


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


def test_weights_that_cannot_be_had_come_with_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    with pytest.raises(BackboneWeightsError, match="no route to host") as caught:
        load_imagenet(nn.Sequential(), "mobilenet_v2", "imagenet")
    said = str(caught.value)
    assert "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth" in said
    assert str(tmp_path / "hub" / "checkpoints" / "mobilenet_v2-b0353104.pth") in said
    assert "--option backbone_weights=null" in said
    assert "\n" not in said


def test_an_unknown_source() -> None:
    with pytest.raises(BackboneWeightsError, match="'coco': choose 'imagenet' or None"):
        load_imagenet(nn.Sequential(), "resnet18", "coco")


@pytest.mark.parametrize("content", [b"", b"<html>sign in</html>"])
def test_a_damaged_file_is_named(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "hub" / "checkpoints" / "mobilenet_v2-b0353104.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(BackboneWeightsError, match=r"b0353104\.pth cannot be read; save https"):
        load_imagenet(mobilenet_v2(), "mobilenet_v2", "imagenet")


def test_weights_of_another_model_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def give(state: dict[str, torch.Tensor]) -> None:
        monkeypatch.setattr(
            type(ResNet18_Weights.IMAGENET1K_V1), "get_state_dict", lambda *_, **__: state
        )

    body = ResNetFPN(resnet="resnet18", frozen_norm=True).body
    published = resnet18(weights=None).state_dict()
    gone = published.pop("layer3.0.conv1.weight")
    give(published)
    with pytest.raises(BackboneWeightsError, match="not the weights of resnet18; save https"):
        load_imagenet(body, "resnet18", "imagenet")
    give(published | {"layer3.0.conv1.weight": gone[:2]})
    with pytest.raises(BackboneWeightsError, match="not the weights of resnet18; save https"):
        load_imagenet(body, "resnet18", "imagenet")
    give(published | {"layer3.0.conv1.weight": gone, "layer5.weight": gone})
    with pytest.raises(BackboneWeightsError, match="not the weights of resnet18; save https"):
        load_imagenet(body, "resnet18", "imagenet")


def test_torchvisions_file_is_found_under_torch_home(
    imagenet_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.hub, "download_url_to_file")
    model = mobilenet_v2(weights=None)
    load_imagenet(model, "mobilenet_v2", "imagenet")
    file = imagenet_files / "mobilenet_v2-b0353104.pth"
    published = torch.load(file, weights_only=True)
    own = model.state_dict()
    assert own.keys() == published.keys()
    assert all(value.equal(published[name]) for name, value in own.items())
