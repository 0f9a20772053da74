from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import mobilenet_v2
from torchvision.ops import FrozenBatchNorm2d

from b2inst.modules.backbones import (
    RCNNFPN,
    FrozenNorm,
    MobileNetFPN,
    ResNetFPN,
    TensorMaskFPN,
    TinyFPN,
    YolactFPN,
)


def test_it_is_torchvisions_in_the_precision_of_its_input() -> None:
    torch.manual_seed(0)
    ours, theirs = FrozenNorm(8), FrozenBatchNorm2d(8)
    for name, buffer in theirs.named_buffers():
        buffer.uniform_(0.5, 2)
        ours.get_buffer(name).copy_(buffer)
    x = torch.randn(2, 8, 3, 3)
    torch.testing.assert_close(ours(x), theirs(x))
    half = x.bfloat16()
    assert theirs(half).dtype == torch.float32
    assert ours(half).dtype == torch.bfloat16
    torch.testing.assert_close(ours(half), theirs(half).bfloat16())


def test_mixed_precision_keeps_half_the_memory_of_a_backbone() -> None:
    """Of what the backward pass needs of a fixed backbone, weights apart."""
    torch.manual_seed(0)
    pyramid = ResNetFPN(resnet="resnet18", frozen_norm=True)
    parameters = {p.untyped_storage().data_ptr() for p in pyramid.parameters()}
    images = torch.rand(1, 3, 256, 256)

    def kept() -> int:
        storages = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            features = pyramid.body(images)  # alive, so that no memory is counted for another
        assert features
        maps = (
            t
            for p, t in storages.items()
            if p not in parameters and t.dim() == 4 and t.shape[0] == 1
        )
        return sum(t.untyped_storage().nbytes() for t in maps)

    single = kept()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = kept()
    assert mixed < 0.6 * single


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


@torch.no_grad()
def test_levels_of_tensormask_are_means_and_p6_is_from_c5() -> None:
    torch.manual_seed(0)
    model = TensorMaskFPN(resnet="resnet18", frozen_norm=False, channels=8).eval()
    images = torch.rand(1, 3, 128, 256)
    levels = model(images)
    assert tuple(levels) == model.strides == (4, 8, 16, 32, 64, 128)
    stages = list(model.body(images).values())
    merged = None
    for k, stride in reversed(list(enumerate((4, 8, 16, 32)))):
        lateral = model.fpn.inner_blocks[k](stages[k])
        above = None if merged is None else merged.repeat_interleave(2, 2).repeat_interleave(2, 3)
        merged = lateral if above is None else lateral / 2 + above / 2
        torch.testing.assert_close(levels[stride], model.fpn.layer_blocks[k](merged))
    top = model.fpn.extra_blocks
    torch.testing.assert_close(levels[64], top.p6(stages[-1]))
    torch.testing.assert_close(levels[128], top.p7(levels[64].relu()))


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


def test_pyramid_at_four_strides() -> None:
    with torch.no_grad():
        features = MobileNetFPN(channels=16)(torch.rand(2, 3, 96, 160))
    assert {stride: tuple(feature.shape) for stride, feature in features.items()} == {
        4: (2, 16, 24, 40),
        8: (2, 16, 12, 20),
        16: (2, 16, 6, 10),
        32: (2, 16, 3, 5),
    }
    assert tuple(features) == (4, 8, 16, 32)


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
    assert list(got) == [4, 8, 16]
    for stride, feature in got.items():
        assert torch.equal(feature, last[stride])


def test_frozen_norm_also_freezes_all_up_to_stride_4() -> None:
    frozen = MobileNetFPN(frozen_norm=True)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in frozen.modules())
    fixed = {name.split(".")[1] for name, p in frozen.named_parameters() if not p.requires_grad}
    assert fixed == {"0", "1", "2", "3"}
    assert all(p.requires_grad for p in MobileNetFPN().parameters())


def test_tiny_pyramid() -> None:
    features = TinyFPN(widths=(4, 4, 8, 8, 8), channels=6)(torch.rand(2, 3, 64, 96))
    got = {stride: tuple(feature.shape) for stride, feature in features.items()}
    assert got == {4: (2, 6, 16, 24), 8: (2, 6, 8, 12), 16: (2, 6, 4, 6), 32: (2, 6, 2, 3)}


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
