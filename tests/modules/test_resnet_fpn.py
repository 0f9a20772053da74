from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from b2inst.modules.resnet_fpn import ResNetFPN


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


def test_a_pyramid_without_its_last_level_is_the_same_below() -> None:
    full = ResNetFPN(resnet="resnet18", frozen_norm=False, channels=16).eval()
    short = ResNetFPN(resnet="resnet18", frozen_norm=False, channels=16, top_levels=1).eval()
    weights = full.state_dict()
    p7 = {name for name in weights if ".p7." in name}
    assert p7 == set(weights) - set(short.state_dict())
    short.load_state_dict({name: value for name, value in weights.items() if name not in p7})
    images = torch.rand(1, 3, 96, 160)
    with torch.no_grad():
        expected, got = full(images), short(images)
    assert tuple(got) == short.strides == (8, 16, 32, 64)
    for stride, feature in got.items():
        assert torch.equal(feature, expected[stride])
    with pytest.raises(ValueError, match="choose 1"):
        ResNetFPN(resnet="resnet18", frozen_norm=False, top_levels=3)


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
