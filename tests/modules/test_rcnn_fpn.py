from __future__ import annotations

import pytest
import torch

from b2inst.modules.resnet_fpn import RCNNFPN, ResNetFPN


@pytest.mark.parametrize("resnet", ["resnet18", "resnet50"])
def test_a_pyramid_from_p2_whose_p6_is_every_other_cell_of_p5(resnet: str) -> None:
    pyramid = RCNNFPN(resnet=resnet, frozen_norm=False, channels=8).eval()
    with torch.no_grad():
        levels = pyramid(torch.rand(1, 3, 128, 192))
    assert tuple(levels) == pyramid.strides
    assert {stride: level.shape for stride, level in levels.items()} == {
        stride: (1, 8, 128 // stride, 192 // stride) for stride in (4, 8, 16, 32, 64)
    }
    assert levels[64].equal(levels[32][:, :, ::2, ::2])


@pytest.mark.parametrize("frozen", [False, True])
def test_its_resnet_is_that_of_the_other_pyramid(frozen: bool) -> None:
    """So that the same ImageNet weights go in, and the same stages are frozen."""
    with torch.device("meta"):
        ours, other = (
            kind(resnet="resnet50", frozen_norm=frozen, stride_in_1x1=True).body
            for kind in (RCNNFPN, ResNetFPN)
        )
    assert ours.state_dict().keys() == other.state_dict().keys()
    assert [(n, p.requires_grad) for n, p in ours.named_parameters()] == [
        (n, p.requires_grad) for n, p in other.named_parameters()
    ]
    assert [m.stride for m in ours.modules() if isinstance(m, torch.nn.Conv2d)] == [
        m.stride for m in other.modules() if isinstance(m, torch.nn.Conv2d)
    ]
