from __future__ import annotations

import os
import re
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from b2inst.models import BasisSegmenter, create_model
from b2inst.modules.fcos_head import FCOSHead


@pytest.fixture
def tiny() -> Callable[..., BasisSegmenter]:
    """A function: name and options to a small model that finds something in any image."""

    def build(name: str = "b2inst-blendmask-tiny", **options: object) -> BasisSegmenter:
        torch.manual_seed(0)
        model = create_model(name, num_classes=3, class_names=("a", "b", "c"), **options)
        assert isinstance(model.instance_head, FCOSHead)
        torch.nn.init.constant_(model.instance_head.class_logits.bias, 0.0)  # type: ignore[arg-type]
        torch.nn.init.constant_(model.instance_head.distances.bias, 1.5)  # type: ignore[arg-type]
        torch.nn.init.normal_(model.instance_head.distances.weight, std=0.1)
        model.instance_head.max_detections = 15
        return model.eval()

    return build


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    """A function: height, width and seed to a random H×W×3 uint8 array."""

    def make(height: int = 96, width: int = 96, seed: int = 0) -> np.ndarray:
        coarse = np.random.default_rng(seed).integers(0, 256, (-(-height // 8), -(-width // 8), 3))
        return coarse.astype(np.uint8).repeat(8, 0).repeat(8, 1)[:height, :width].copy()

    return make


#: The published names and ours; what follows a name (".weight", ".running_mean", …) stays.
NAMES = [
    (r"backbone\.bottom_up\.stem\.conv1\.norm", "backbone.body.bn1"),
    (r"backbone\.bottom_up\.stem\.conv1", "backbone.body.conv1"),
    (r"backbone\.bottom_up\.res(\d)\.(\d)\.conv(\d)\.norm", r"backbone.body.res\1.\2.bn\3"),
    (r"backbone\.bottom_up\.res(\d)\.(\d)\.conv(\d)", r"backbone.body.res\1.\2.conv\3"),
    (r"backbone\.bottom_up\.res(\d)\.(\d)\.shortcut\.norm", r"backbone.body.res\1.\2.downsample.1"),
    (r"backbone\.bottom_up\.res(\d)\.(\d)\.shortcut", r"backbone.body.res\1.\2.downsample.0"),
    (r"backbone\.fpn_lateral(\d)", r"backbone.fpn.inner_blocks.level\1.0"),
    (r"backbone\.fpn_output(\d)", r"backbone.fpn.layer_blocks.level\1.0"),
    (r"backbone\.top_block\.p(\d)", r"backbone.fpn.extra_blocks.p\1"),
    (r"proposal_generator\.fcos_head\.cls_tower", "instance_head.class_tower"),
    (r"proposal_generator\.fcos_head\.bbox_tower", "instance_head.box_tower"),
    (r"proposal_generator\.fcos_head\.cls_logits", "instance_head.class_logits"),
    (r"proposal_generator\.fcos_head\.bbox_pred", "instance_head.distances"),
    (r"proposal_generator\.fcos_head\.ctrness", "instance_head.centerness"),
    (r"top_layer", "instance_head.coefficients"),
    (r"basis_module\.refine", "basis_head.refine"),
    (r"basis_module\.tower\.([012])", r"basis_head.convs.\1"),
    (r"basis_module\.tower\.4", "basis_head.upsampled_conv"),
    (r"basis_module\.tower\.5", "basis_head.project"),
    (r"basis_module\.seg_head\.0", "basis_head.auxiliary.convs.0.0"),
    (r"basis_module\.seg_head\.1", "basis_head.auxiliary.convs.0.1"),
    (r"basis_module\.seg_head\.3", "basis_head.auxiliary.convs.1.0"),
    (r"basis_module\.seg_head\.4", "basis_head.auxiliary.convs.1.1"),
    (r"basis_module\.seg_head\.6", "basis_head.auxiliary.project"),
]
#: torchvision counts the ResNet's stages from 1, the pyramid's levels from 0.
COUNTS = {f".res{n}.": f".layer{n - 1}." for n in (2, 3, 4, 5)}
COUNTS |= {f".level{n}.": f".{n - 3}." for n in (3, 4, 5)}


def rename(published: str) -> str:
    """Our name of a published tensor; an error if no row of the table, or several, match it."""
    for pattern, ours in NAMES:
        name, changed = re.subn(rf"^{pattern}(?=\.)", ours, published)
        if changed:
            for theirs, own in COUNTS.items():
                name = name.replace(theirs, own)
            return name
    raise KeyError(published)


@pytest.fixture(scope="session")
def own_name() -> Callable[[str], str]:
    """A function: the published BlendMask's name of a tensor to ours."""
    return rename


@pytest.fixture(scope="session")
def published_blendmask() -> Callable[[int], BasisSegmenter]:
    """A function: attention size to our BlendMask with the reference's weights."""

    def build(attention_size: int) -> BasisSegmenter:
        folder = Path(os.environ["B2INST_REFERENCE"])
        make = runpy.run_path(str(folder / "make_weights.py"))
        published = make["make_state_dict"](
            str(folder / f"blendmask_attn{attention_size}_spec.json"), 0
        )
        model = create_model(
            "blendmask-r50",
            num_classes=80,
            attention_size=attention_size,
            msra=True,
            frozen_norm=True,
            shorter=320,
            longer_max=533,
        )
        model.load_state_dict({rename(k): torch.from_numpy(v) for k, v in published.items()})
        return model

    return build
