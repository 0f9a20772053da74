from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import b2inst
from b2inst.models import create_model
from b2inst.modules.dynamic_mask_head import DynamicMaskHead
from b2inst.weights import WeightsError
from b2inst.weights.adelaidet import ADELAIDET
from b2inst.weights.convert import convert
from b2inst.weights.files import model_card
from b2inst.weights.published import COCO_CATEGORY_IDS, COCO_CLASS_NAMES

Layout = dict[str, tuple[int, ...]]
MakeLayout = Callable[..., Layout]

SIZES = torch.tensor([64.0, 128, 256, 512, 1024])


def block(name: str, into: int) -> Layout:
    layout: Layout = {f"{name}.0.weight": (128, into, 3, 3), f"{name}.1.num_batches_tracked": ()}
    values = ("weight", "bias", "running_mean", "running_var")
    return layout | {f"{name}.1.{value}": (128,) for value in values}


@pytest.fixture
def layout(published_layout: MakeLayout) -> MakeLayout:
    """A function: kind of model to the names and shapes that AdelaiDet's CondInst has."""

    def make(*, depth: int = 50, semantic: bool = False, classes: int = 80) -> Layout:
        like = published_layout(depth, classes=classes)
        made = {n: s for n, s in like.items() if not n.startswith(("basis_module", "top_layer"))}
        made |= {f"proposal_generator.fcos_head.scales.{i}.scale": (1,) for i in range(5)}
        made |= {"controller.weight": (169, 256, 3, 3), "controller.bias": (169,)}
        for i in range(3):
            made |= block(f"mask_branch.refine.{i}", 256)
        for i in range(4):
            made |= block(f"mask_branch.tower.{i}", 128)
        made |= {"mask_branch.tower.4.weight": (8, 128, 1, 1), "mask_branch.tower.4.bias": (8,)}
        if semantic:
            made |= block("mask_branch.seg_head.0", 256) | block("mask_branch.seg_head.1", 128)
            made |= {"mask_branch.logits.weight": (classes, 128, 1, 1)}
            made |= {"mask_branch.logits.bias": (classes,)}
        return made

    return make


def hollow(layout: Layout) -> dict[str, Tensor]:
    """Tensors of these shapes that take no memory."""
    return {name: torch.zeros(()).expand(shape) for name, shape in layout.items()}


@pytest.mark.skipif("B2INST_REFERENCE" not in os.environ, reason="B2INST_REFERENCE is not set")
@pytest.mark.parametrize("semantic", [False, True])
def test_the_layout_of_these_tests_is_the_published_one(layout: MakeLayout, semantic: bool) -> None:
    file = Path(os.environ["B2INST_REFERENCE"]) / f"condinst_r50{'_sem' * semantic}_spec.json"
    spec = json.loads(file.read_text())
    assert layout(semantic=semantic) == {name: tuple(e["shape"]) for name, e in spec.items()}


@pytest.mark.parametrize(("depth", "semantic"), [(50, False), (101, True)])
def test_every_tensor_of_ours_is_reached_exactly_once(
    layout: MakeLayout, depth: int, semantic: bool
) -> None:
    published = layout(depth=depth, semantic=semantic)
    with torch.device("meta"):
        model = create_model(
            f"condinst-r{depth}", num_classes=80, semantic=semantic, frozen_norm=True
        )
    ours = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    names = ADELAIDET.own_names(published)
    assert sorted(names.values()) == sorted(ours)
    assert {names[theirs]: shape for theirs, shape in published.items()} == ours


def test_names_by_hand() -> None:
    pairs = {
        "proposal_generator.fcos_head.scales.4.scale": "instance_head.scales.4.scale",
        "controller.bias": "instance_head.coefficients.bias",
        "mask_branch.refine.2.0.weight": "basis_head.refine.2.0.weight",
        "mask_branch.tower.3.1.running_var": "basis_head.convs.3.1.running_var",
        "mask_branch.tower.4.weight": "basis_head.project.weight",
        "mask_branch.seg_head.1.0.weight": "basis_head.auxiliary.convs.1.0.weight",
        "mask_branch.logits.bias": "basis_head.auxiliary.project.bias",
    }
    assert ADELAIDET.own_names([*pairs, "mask_head._iter"]) == pairs


def test_a_checkpoint_becomes_a_file_of_ours(layout: MakeLayout, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(shape, generator=generator) / 100 if shape else torch.tensor(7)
        for name, shape in layout(classes=80).items()
    }
    published = tensors | {"mask_head.sizes_of_interest": SIZES, "mask_head._iter": torch.zeros(1)}
    torch.save({"model": published}, tmp_path / "CondInst_MS_R_50_1x.pth")
    report = convert(
        tmp_path / "CondInst_MS_R_50_1x.pth", tmp_path / "out.safetensors", publisher="adelaidet"
    )
    assert "not needed: 2 (mask_head.sizes_of_interest, mask_head._iter)" in str(report)
    assert "condinst-r50, classes: 80 (COCO's), num_bases 8" in str(report)
    assert tuple(model_card(tmp_path / "out.safetensors")["category_ids"]) == COCO_CATEGORY_IDS
    model = b2inst.load_model(tmp_path / "out.safetensors")
    assert model.class_names == COCO_CLASS_NAMES
    assert isinstance(model.assembler, DynamicMaskHead)
    assert model.preprocessor.bgr
    own = model.state_dict()
    assert all(
        own[ours].equal(tensors[theirs]) for theirs, ours in ADELAIDET.own_names(tensors).items()
    )
    model.preprocessor.shorter = 64  # type: ignore[attr-defined]
    (found,) = model.predict([np.zeros((64, 96, 3), np.uint8)])
    assert found.masks.shape[1:] == (64, 96)


def test_the_semantic_head_of_sem_models_is_kept(layout: MakeLayout) -> None:
    model = ADELAIDET.load(hollow(layout(semantic=True, classes=3)), source="model_final.pth")
    assert model.recipe["options"]["semantic"] is True
    assert any(name.startswith("basis_head.auxiliary") for name in model.state_dict())


def test_what_does_not_fit_is_refused(layout: MakeLayout) -> None:
    tensors = hollow(layout())
    with pytest.raises(WeightsError, match=r"BoxInst_MS_R_50_3x\.pth: is of BoxInst by its name"):
        ADELAIDET.load(tensors, source="models/BoxInst_MS_R_50_3x.pth")
    others = {
        "mask_head.sizes_of_interest is": {"mask_head.sizes_of_interest": torch.ones(5)},
        r"size mismatch .*\[233": {"controller.weight": torch.zeros(()).expand(233, 256, 3, 3)},
        "unknown mask_branch.refine.3.0.weight": {"mask_branch.refine.3.0.weight": torch.ones(1)},
        r"tower\.4\.weight is missing or empty": {"mask_branch.tower.4.weight": torch.ones(0)},
    }
    for message, change in others.items():
        with pytest.raises(WeightsError, match=message):
            ADELAIDET.load(tensors | change, source="model_final.pth")
