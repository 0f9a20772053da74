"""Backbones, images to a pyramid of features, and their ImageNet weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import ResNet, get_model, get_model_weights
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import BasicBlock, Bottleneck, conv1x1
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from b2inst.modules.layers import initialise
from b2inst.structures import Features

#: Strides of the stages of a ResNet and of MobileNetV2, by the name of their last block.
C3_TO_C5 = {"layer2": 8, "layer3": 16, "layer4": 32}
C2_TO_C5 = {"layer1": 4} | C3_TO_C5
_MOBILENET_STAGES = {"3": 4, "6": 8, "13": 16}


class FrozenNorm(FrozenBatchNorm2d):
    """torchvision's in one pass over the maps, with an output as precise as its input.

    There, maps in half precision come out in single, so that mixed precision would save no memory.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return torch.addcmul(shift[:, None, None], x, scale[:, None, None]).to(x.dtype)


class PyramidBackbone(nn.Module):
    """Stages of a network, fused top-down (Lin et al., CVPR 2017), and coarser levels.

    Args:
        network: Its children are the stages, by name.
        stages, widths: Stride of each by name, in order, and their channels.
        channels: Of every level.
        top: The coarser levels.
    """

    pyramid: type[FeaturePyramidNetwork] = FeaturePyramidNetwork

    def __init__(
        self,
        network: nn.Module,
        stages: Mapping[str, int],
        widths: list[int],
        channels: int,
        top: ExtraFPNBlock,
    ) -> None:
        super().__init__()
        self.body = IntermediateLayerGetter(network, stages)
        self.fpn = self.pyramid(widths, channels, extra_blocks=top)
        self.out_channels = channels
        *_, last = strides = list(stages.values())
        coarser = (2, 4) if isinstance(top, LastLevelP6P7) else (2,)
        self.strides = (*strides, *(last * factor for factor in coarser))

    def forward(self, images: Tensor) -> Features:
        """B×3×H×W, sides multiples of 32 (64 with P6 by subsampling), to features by stride."""
        levels = self.fpn(self.body(images))
        return dict(zip(self.strides, levels.values(), strict=True))


class LastLevelP6(ExtraFPNBlock):
    """P6 alone; otherwise like torchvision's ``LastLevelP6P7``."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        initialise(self.p6, partial(nn.init.kaiming_uniform_, a=1))

    def forward(
        self, results: list[Tensor], x: list[Tensor], names: list[str]
    ) -> tuple[list[Tensor], list[str]]:
        return [*results, self.p6(results[-1])], [*names, "p6"]


class ResNetFPN(PyramidBackbone):
    """P3–P5 from C3–C5 of a ResNet, P6 and P7 by strided convolutions of P5, as in FCOS.

    Args:
        channels: Of every level.
        top_levels: Above P5: 2, or 1 to leave out P7.
        resnet: ``resnet``, its name in torchvision; ``frozen_norm`` fixes the statistics and affine
            parameters of batch norm, and the weights of the stem and the first stage;
            ``stride_in_1x1`` puts the stride of stages in the first 1×1 convolution (detectron2's
            MSRA weights) rather than in the 3×3 (torchvision's). Bottleneck ResNets only.
    """

    def __init__(self, *, channels: int = 256, top_levels: int = 2, **resnet: Any) -> None:
        if top_levels not in (1, 2):
            raise ValueError(f"top_levels {top_levels}: choose 1 (P6) or 2 (P6 and P7)")
        network = _resnet(**resnet)
        top = (LastLevelP6P7 if top_levels == 2 else LastLevelP6)(channels, channels)
        super().__init__(network, C3_TO_C5, _widths(network, C3_TO_C5), channels, top)


class RCNNFPN(PyramidBackbone):
    """P2–P5 from C2–C5 of a ResNet, P6 by subsampling P5; for arguments see ``ResNetFPN``."""

    def __init__(self, *, channels: int = 256, **resnet: Any) -> None:
        network = _resnet(**resnet)
        widths = _widths(network, C2_TO_C5)
        super().__init__(network, C2_TO_C5, widths, channels, LastLevelMaxPool())


class AveragingPyramid(FeaturePyramidNetwork):
    """torchvision's, with averages of stages and upsampled levels in place of sums."""

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        stages = list(x.values())
        merged = self.inner_blocks[-1](stages[-1])
        levels = [self.layer_blocks[-1](merged)]
        for i in reversed(range(len(stages) - 1)):
            lateral = self.inner_blocks[i](stages[i])
            merged = (lateral + F.interpolate(merged, lateral.shape[-2:])) / 2
            levels.insert(0, self.layer_blocks[i](merged))
        levels, names = self.extra_blocks(levels, stages, list(x))
        return dict(zip(names, levels, strict=True))


class TensorMaskFPN(PyramidBackbone):
    """As ``RCNNFPN``, with averages in P2–P5, and P6 and P7 by convolutions of C5."""

    pyramid = AveragingPyramid

    def __init__(self, *, channels: int = 256, **resnet: Any) -> None:
        network = _resnet(**resnet)
        widths = _widths(network, C2_TO_C5)
        top = LastLevelP6P7(widths[-1], channels)
        super().__init__(network, C2_TO_C5, widths, channels, top)


def _resnet(*, resnet: str, frozen_norm: bool, stride_in_1x1: bool = False) -> ResNet:
    network = get_model(resnet, weights=None, norm_layer=_norm(frozen_norm))
    for stage in C3_TO_C5 if stride_in_1x1 else ():
        block = getattr(network, stage)[0]
        if not isinstance(block, Bottleneck):
            raise ValueError("stride_in_1x1 needs a bottleneck ResNet (resnet50 or resnet101)")
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    if frozen_norm:
        network.conv1.requires_grad_(False)
        network.layer1.requires_grad_(False)
    return network


def _widths(network: ResNet, stages: Mapping[str, int]) -> list[int]:
    return [network.inplanes * stride // 32 for stride in stages.values()]


def _norm(frozen: bool) -> type[nn.Module]:
    return FrozenNorm if frozen else nn.BatchNorm2d


class MobileNetFPN(PyramidBackbone):
    """MobileNetV2 up to stride 16; P2–P4 by top-down fusion, P5 by a strided convolution of P4.

    The blocks at stride 32 are left out: they hold three quarters of the parameters.

    Args:
        weights: "imagenet" (see ``load_imagenet``) or None for random ones.
        frozen_norm: As of ``ResNetFPN``, with the weights up to stride 4.
    """

    def __init__(
        self, *, weights: str | None = None, frozen_norm: bool = False, channels: int = 64
    ) -> None:
        network = get_model("mobilenet_v2", weights=None, norm_layer=_norm(frozen_norm))
        if weights is not None:
            load_imagenet(network, "mobilenet_v2", weights)
        blocks = network.features
        if frozen_norm:
            blocks[:4].requires_grad_(False)
        widths = [blocks[int(last)].out_channels for last in _MOBILENET_STAGES]
        top = LastLevelP6(channels, channels)
        super().__init__(blocks, _MOBILENET_STAGES, widths, channels, top)


class TinyFPN(nn.Module):
    """One residual block a stage, of widths at strides 2 to 32; a pyramid at strides 4 to 32."""

    strides = (4, 8, 16, 32)

    def __init__(self, *, widths: Sequence[int] = (16, 32, 64, 96, 128), channels: int = 48):
        super().__init__()
        self.stem = Conv2dNormActivation(3, widths[0], stride=2)
        self.stages = nn.ModuleList()
        for wide_in, wide_out in pairwise(widths):
            shortcut = nn.Sequential(conv1x1(wide_in, wide_out, stride=2), nn.BatchNorm2d(wide_out))
            self.stages.append(BasicBlock(wide_in, wide_out, stride=2, downsample=shortcut))
        self.fpn = FeaturePyramidNetwork(list(widths[1:]), channels)
        self.out_channels = channels

    def forward(self, images: Tensor) -> Features:
        """B×3×H×W, sides multiples of 32, to features by stride."""
        x = self.stem(images)
        levels: Features = {}
        for stride, stage in zip(self.strides, self.stages, strict=True):
            levels[stride] = x = stage(x)
        return dict(self.fpn(levels))


class YolactFPN(nn.Module):
    """P3–P5 from C3–C5 of a ResNet, P6 and P7 by strided convolutions of P5.

    Unlike torchvision's pyramid it upsamples bilinearly, and P3–P5 (not P6 and P7) end in a ReLU.
    Sides of the image need not be multiples of the strides.

    Args:
        resnet: Its name in torchvision.
        frozen_norm: Fix the statistics and affine parameters of batch norm, and nothing else.
    """

    strides = (8, 16, 32, 64, 128)

    def __init__(self, *, resnet: str, frozen_norm: bool = False, channels: int = 256) -> None:
        super().__init__()
        network = get_model(resnet, weights=None, norm_layer=_norm(frozen_norm))
        self.body = IntermediateLayerGetter(network, C3_TO_C5)
        widths = _widths(network, C3_TO_C5)
        self.lateral = nn.ModuleList(nn.Conv2d(wide, channels, 1) for wide in widths)
        self.output = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in widths)
        strided = partial(nn.Conv2d, channels, channels, 3, stride=2, padding=1)
        self.top = nn.ModuleList([strided(), strided()])
        for part in (self.lateral, self.output, self.top):
            initialise(part, nn.init.xavier_uniform_)
        self.out_channels = channels

    def forward(self, images: Tensor) -> Features:
        """B×3×H×W to features by stride; sides are halved and rounded up, level by level."""
        pairs = zip(self.lateral, self.body(images).values(), strict=True)
        levels = [lateral(stage) for lateral, stage in pairs]
        for i in reversed(range(len(levels) - 1)):
            above = F.interpolate(levels[i + 1], levels[i].shape[-2:], mode="bilinear")
            levels[i] = levels[i] + above
        levels = [F.relu(conv(x)) for conv, x in zip(self.output, levels, strict=True)]
        for conv in self.top:
            levels.append(conv(levels[-1]))
        return dict(zip(self.strides, levels, strict=True))


class BackboneWeightsError(ValueError):
    """Backbone weights that cannot be had; the message says what to do instead."""


def load_imagenet(body: nn.Module, name: str, source: str) -> None:
    """Fill a backbone with torchvision's ImageNet weights (``IMAGENET1K_V1``).

    They are downloaded to ``$TORCH_HOME/hub/checkpoints``, unless the file is there.

    Args:
        body: A torchvision model, or the stages of a ResNet.
        name: torchvision's name of the model: "resnet18", … "resnet101", "mobilenet_v2".
        source: "imagenet".

    Raises:
        BackboneWeightsError: An unknown source, or weights that cannot be fetched or do not fit.
    """
    if source != "imagenet":
        raise BackboneWeightsError(f"backbone_weights {source!r}: choose 'imagenet' or None")
    weights = get_model_weights(name)["IMAGENET1K_V1"]
    file = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    remedy = (
        f"save {weights.url} as {file} (or set TORCH_HOME), or train from scratch with "
        "--option backbone_weights=null (in Python: backbone_weights=None)"
    )
    try:
        state = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        problem = f"{file} cannot be read" if file.exists() else f"could not be fetched ({error})"
        raise BackboneWeightsError(f"ImageNet weights of {name}: {problem}; {remedy}") from error
    try:
        # The stages of a ResNet have no classifier.
        body.load_state_dict({k: v for k, v in state.items() if not k.startswith("fc.")})
    except (RuntimeError, AttributeError) as error:
        raise BackboneWeightsError(f"{file}: not the weights of {name}; {remedy}") from error
