from __future__ import annotations

import torch
from torch import nn
from torchvision.models import mobilenet_v2

from b2inst.modules.mobilenet_fpn import MobileNetFPN


def test_pyramid_at_four_strides() -> None:
    with torch.no_grad():
        features = MobileNetFPN(channels=16)(torch.rand(2, 3, 96, 160))
    assert {stride: tuple(feature.shape) for stride, feature in features.items()} == {
        4: (2, 16, 24, 40),
        8: (2, 16, 12, 20),
        16: (2, 16, 6, 10),
        32: (2, 16, 3, 5),
    }
    assert tuple(features) == MobileNetFPN.strides


def test_the_body_is_the_last_of_torchvisions_blocks_at_each_stride() -> None:
    torch.manual_seed(0)
    images = torch.rand(1, 3, 64, 96)
    pyramid, network = MobileNetFPN().eval(), mobilenet_v2(weights=None).eval()
    network.features[:14].load_state_dict(pyramid.body.state_dict())
    last: dict[int, torch.Tensor] = {}
    x = images
    with torch.no_grad():
        for block in network.features[:14]:
            x = block(x)
            last[images.shape[-1] // x.shape[-1]] = x
        got = pyramid.body(images)
    assert list(got) == ["4", "8", "16"]
    for stride, feature in got.items():
        assert torch.equal(feature, last[int(stride)])


def test_frozen_norm_also_freezes_all_up_to_stride_4() -> None:
    frozen = MobileNetFPN(frozen_norm=True)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in frozen.modules())
    fixed = {name.split(".")[1] for name, p in frozen.named_parameters() if not p.requires_grad}
    assert fixed == {"0", "1", "2", "3"}
    assert all(p.requires_grad for p in MobileNetFPN().parameters())
