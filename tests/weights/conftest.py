from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

Layout = dict[str, tuple[int, ...]]


def conv(name: str, out: int, into: int, size: int, *, bias: bool = True) -> Layout:
    return {f"{name}.weight": (out, into, size, size)} | ({f"{name}.bias": (out,)} if bias else {})


def norm(name: str, channels: int, *, counted: bool) -> Layout:
    last = ("weight", "bias", "running_mean", "running_var")
    shapes: Layout = {f"{name}.{value}": (channels,) for value in last}
    return shapes | ({f"{name}.num_batches_tracked": ()} if counted else {})


def resnet(depth: int) -> Layout:
    """detectron2's ResNet with frozen norm."""
    body = conv("stem.conv1", 64, 3, 7, bias=False) | norm("stem.conv1.norm", 64, counted=False)
    blocks = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]
    before = 64
    for stage, count in zip((2, 3, 4, 5), blocks, strict=True):
        width = 64 * 2 ** (stage - 2)
        for block in range(count):
            convs = [("conv1", width, before, 1), ("conv2", width, width, 3)]
            convs += [("conv3", 4 * width, width, 1)]
            convs += [("shortcut", 4 * width, before, 1)] if block == 0 else []
            for name, out, into, size in convs:
                place = f"res{stage}.{block}.{name}"
                body |= conv(place, out, into, size, bias=False)
                body |= norm(f"{place}.norm", out, counted=False)
            before = 4 * width
    return body


def adelaidet(
    depth: int = 50, *, realtime: bool = False, attention: int = 14, classes: int = 80
) -> Layout:
    """Names and shapes of AdelaiDet's BlendMask, by its configuration files."""
    layout = {f"backbone.bottom_up.{name}": shape for name, shape in resnet(depth).items()}
    for level, channels in ((3, 512), (4, 1024), (5, 2048)):
        layout |= conv(f"backbone.fpn_lateral{level}", 256, channels, 1)
        layout |= conv(f"backbone.fpn_output{level}", 256, 256, 3)
    for level in (6,) if realtime else (6, 7):
        layout |= conv(f"backbone.top_block.p{level}", 256, 256, 3)
    head = "proposal_generator.fcos_head"
    for tower, count in ({"share": 3} if realtime else {"cls": 4, "bbox": 4}).items():
        for i in range(0, 3 * count, 3):
            layout |= conv(f"{head}.{tower}_tower.{i}", 256, 256, 3)
            group_norm = f"{head}.{tower}_tower.{i + 1}"
            layout |= {f"{group_norm}.weight": (256,), f"{group_norm}.bias": (256,)}
    for name, channels in (("cls_logits", classes), ("bbox_pred", 4), ("ctrness", 1)):
        layout |= conv(f"{head}.{name}", channels, 256, 3)
    layout |= conv("top_layer", 4 * attention**2, 256, 3)
    convs = 2 if realtime else 3
    basis = [(f"refine.{i}", 256) for i in range(3)]
    basis += [(f"tower.{i}", 128) for i in (*range(convs), convs + 1)]
    for name, into in basis:
        layout |= conv(f"basis_module.{name}.0", 128, into, 3, bias=False)
        layout |= norm(f"basis_module.{name}.1", 128, counted=True)
    layout |= conv(f"basis_module.tower.{convs + 2}", 4, 128, 1)
    for i, into in ((0, 256), (3, 128)):
        layout |= conv(f"basis_module.seg_head.{i}", 128, into, 3, bias=False)
        layout |= norm(f"basis_module.seg_head.{i + 1}", 128, counted=True)
    return layout | conv("basis_module.seg_head.6", classes + 1, 128, 1)


@pytest.fixture(scope="session")
def published_layout() -> Callable[..., Layout]:
    """A function: kind of model to the names and shapes that AdelaiDet's checkpoint has."""
    return adelaidet


@pytest.fixture(scope="session")
def backbone_layout() -> Callable[[int], Layout]:
    """A function: depth to the names and shapes of detectron2's ResNet."""
    return resnet


@pytest.fixture(scope="session")
def checkpoint() -> Callable[..., dict[str, Tensor]]:
    """A function: kind of model to a random state dict in AdelaiDet's layout.

    Its convolutions keep the size of what passes through them, so that the model finds things.
    """

    def make(depth: int = 50, **options: bool | int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(0)
        tensors: dict[str, Tensor] = {}
        for name, shape in adelaidet(depth, **options).items():  # type: ignore[arg-type]
            if name.endswith("num_batches_tracked"):
                tensors[name] = torch.tensor(7)
            elif len(shape) == 4:
                scale = (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
                tensors[name] = torch.randn(shape, generator=generator) * scale
            elif name.endswith(("norm.weight", "running_var", ".1.weight", ".4.weight")):
                tensors[name] = 0.5 + torch.rand(shape, generator=generator)
            else:
                tensors[name] = torch.randn(shape, generator=generator) / 10
        return tensors

    return make
