from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from b2inst.modules.yolact_fpn import YolactFPN


def test_levels_are_rounded_up_and_fused_as_published() -> None:
    """yolact_facts.md §3, on our convolutions."""
    torch.manual_seed(0)
    backbone = YolactFPN(resnet="resnet18", channels=8).eval()
    images = torch.randn(1, 3, 70, 70)
    with torch.no_grad():
        c3, c4, c5 = backbone.body(images).values()
        lateral = [conv(c) for conv, c in zip(backbone.lateral, (c3, c4, c5), strict=True)]
        p5 = lateral[2]
        p4 = lateral[1] + F.interpolate(p5, (5, 5), mode="bilinear", align_corners=False)
        p3 = lateral[0] + F.interpolate(p4, (9, 9), mode="bilinear", align_corners=False)
        out = [conv(p).relu() for conv, p in zip(backbone.output, (p3, p4, p5), strict=True)]
        p6 = backbone.top[0](out[2])
        p7 = backbone.top[1](p6)
        levels = backbone(images)
    assert list(levels) == [8, 16, 32, 64, 128]
    assert [level.shape[-1] for level in levels.values()] == [9, 5, 3, 2, 1]
    for level, expected in zip(levels.values(), (*out, p6, p7), strict=True):
        torch.testing.assert_close(level, expected)
    assert min(levels[s].min() for s in (8, 16, 32)) == 0
    assert min(levels[s].min() for s in (64, 128)) < 0


@pytest.mark.parametrize("resnet", ["resnet50", "resnet101"])
def test_strides_of_bottlenecks_are_in_their_3x3(resnet: str) -> None:
    with torch.device("meta"):
        body = YolactFPN(resnet=resnet).body
    for stage in ("layer2", "layer3", "layer4"):
        assert body[stage][0].conv1.stride == (1, 1)
        assert body[stage][0].conv2.stride == (2, 2)


def test_frozen_norm_has_nothing_to_train() -> None:
    with torch.device("meta"):
        names = [
            name for name, _ in YolactFPN(resnet="resnet18", frozen_norm=True).named_parameters()
        ]
    assert not [name for name in names if "bn" in name]
    assert [name for name in names if "conv1" in name]
