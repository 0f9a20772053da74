from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from b2inst.models import create_model
from b2inst.modules.blender import Blender
from b2inst.modules.fcos_head import FCOSHead
from b2inst.weights import WeightsError
from b2inst.weights.adelaidet import ADELAIDET
from b2inst.weights.published import COCO_CATEGORY_IDS, COCO_CLASS_NAMES

Layout = dict[str, tuple[int, ...]]
MakeLayout = Callable[..., Layout]


def hollow(layout: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors of these shapes that take no memory."""
    return {name: torch.zeros(()).expand(shape) for name, shape in layout.items()}


@pytest.mark.skipif("B2INST_REFERENCE" not in os.environ, reason="B2INST_REFERENCE is not set")
@pytest.mark.parametrize("attention", [7, 14])
def test_the_layout_of_these_tests_is_the_published_one(
    published_layout: MakeLayout, attention: int
) -> None:
    folder = Path(os.environ["B2INST_REFERENCE"])
    spec = json.loads((folder / f"blendmask_attn{attention}_spec.json").read_text())
    layout = published_layout(attention=attention)
    assert layout == {name: tuple(entry["shape"]) for name, entry in spec.items()}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("blendmask-r50", {}),
        ("blendmask-r101", {"depth": 101}),
        ("blendmask-550-r50", {"realtime": True}),
    ],
)
def test_every_tensor_of_ours_is_reached_exactly_once(
    published_layout: MakeLayout, name: str, options: dict[str, int]
) -> None:
    layout = published_layout(**options)
    with torch.device("meta"):
        model = create_model(name, num_classes=80, attention_size=14, frozen_norm=True)
    ours = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    names = ADELAIDET.own_names(layout)
    assert set(names) == set(layout)
    assert sorted(names.values()) == sorted(ours)
    assert {names[theirs]: shape for theirs, shape in layout.items()} == ours


def test_names_by_hand() -> None:
    pairs = {
        "backbone.bottom_up.stem.conv1.norm.running_var": "backbone.body.bn1.running_var",
        "backbone.bottom_up.res4.22.conv3.weight": "backbone.body.layer3.22.conv3.weight",
        "backbone.bottom_up.res5.0.shortcut.norm.bias": "backbone.body.layer4.0.downsample.1.bias",
        "backbone.fpn_lateral5.weight": "backbone.fpn.inner_blocks.2.0.weight",
        "backbone.fpn_output3.bias": "backbone.fpn.layer_blocks.0.0.bias",
        "proposal_generator.fcos_head.share_tower.7.bias": "instance_head.shared_tower.7.bias",
        "proposal_generator.fcos_head.cls_tower.0.weight": "instance_head.class_tower.0.weight",
        "proposal_generator.fcos_head.bbox_pred.weight": "instance_head.distances.weight",
        "basis_module.tower.1.0.weight": "basis_head.convs.1.0.weight",
        "basis_module.tower.3.1.running_mean": "basis_head.upsampled_conv.1.running_mean",
        "basis_module.tower.4.bias": "basis_head.project.bias",
        "basis_module.seg_head.4.weight": "basis_head.auxiliary.convs.1.1.weight",
        "top_layer.weight": "instance_head.coefficients.weight",
    }
    assert ADELAIDET.own_names([*pairs, "pixel_mean", "top_layer", "roi_heads.x.weight"]) == pairs


def test_the_published_real_time_model(checkpoint: Callable[..., dict[str, Tensor]]) -> None:
    tensors = checkpoint(realtime=True, attention=7)
    model = ADELAIDET.load(tensors, source="550_R_50_3x.pth")
    assert not model.training
    assert model.class_names == COCO_CLASS_NAMES
    own = model.state_dict()
    assert all(
        own[ours].equal(tensors[theirs]) for theirs, ours in ADELAIDET.own_names(tensors).items()
    )
    head, blender = model.instance_head, model.assembler
    assert isinstance(head, FCOSHead)
    assert isinstance(blender, Blender)
    assert head.strides == (8, 16, 32, 64)
    assert head.sizes_of_interest == ((-1, 64), (64, 128), (128, 256), (256, 1e8))
    assert (blender.num_bases, blender.attention_size) == (4, 7)
    assert (model.preprocessor.shorter, model.preprocessor.longer_max) == (550, 916)
    assert model.preprocessor.bgr
    model.preprocessor.shorter = 64
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    assert model.predict([picture])[0].masks.shape[1:] == (64, 96)


def test_another_data_set(published_layout: MakeLayout) -> None:
    """Classes need not be COCO's, and the constants that old checkpoints hold may be there."""
    tensors = hollow(published_layout(classes=3))
    tensors["pixel_mean"] = torch.tensor([103.53, 116.28, 123.675]).view(3, 1, 1)
    tensors["pixel_std"] = torch.ones(3, 1, 1)
    model = ADELAIDET.load(tensors, source="model_final.pth")
    assert model.recipe["num_classes"] == 3
    assert model.class_names is None


def test_all_that_does_not_fit_is_told(published_layout: MakeLayout) -> None:
    tensors = hollow(published_layout())
    del tensors["backbone.fpn_output4.weight"], tensors["backbone.fpn_output4.bias"]
    del tensors["basis_module.seg_head.6.bias"]
    tensors["top_layer.bias"] = torch.zeros(196)
    tensors["proposal_generator.fcos_head.scales.0.scale"] = torch.ones(1)
    tensors["sem_seg_head.p3.weight"] = torch.ones(1)
    tensors["pixel_mean"] = torch.tensor([123.675, 116.28, 103.53])
    with pytest.raises(WeightsError) as caught:
        ADELAIDET.load(tensors, source="dir/model_final.pth")
    message = str(caught.value)
    assert message.startswith("dir/model_final.pth: does not fit blendmask-r50")
    assert "unknown proposal_generator.fcos_head.scales.0.scale, sem_seg_head.p3.weight" in message
    assert "backbone.fpn.layer_blocks.1.0.weight" in message
    assert "basis_head.auxiliary.project.bias" in message
    assert "size mismatch for instance_head.coefficients.bias" in message
    assert "pixel_mean is [123" in message
    assert "\n" not in message


def without(layout: Layout, start: str) -> Layout:
    return {name: shape for name, shape in layout.items() if not name.startswith(start)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda all_: {}, "no ResNet-50 or -101"),
        (lambda all_: without(all_, "backbone.bottom_up.res4.5"), r"\(3, 4, 5, 3\) blocks"),
        (lambda all_: without(all_, "backbone.top_block"), r"Missing key.*extra_blocks\.p6"),
        (lambda all_: without(all_, "basis_module"), "basis_module.tower is missing"),
        (lambda all_: without(all_, "top_layer"), "top_layer.weight is missing"),
        (lambda all_: all_ | {"top_layer.weight": ()}, "top_layer.weight is missing or empty"),
        (
            lambda all_: all_ | {"top_layer.weight": (783, 256, 3, 3)},
            r"\[783, .*\[676",
        ),
        (
            lambda all_: all_ | {"backbone.bottom_up.res5.0.conv2_offset.weight": (27, 512, 3, 3)},
            "unknown backbone.*conv2_offset.weight",
        ),
        (
            lambda all_: all_ | {"proposal_generator.fcos_head.cls_tower.9.offset.bias": (18,)},
            "unknown .*cls_tower.9.offset.bias",
        ),
        (
            lambda all_: all_ | {"backbone.bottom_up.stem.conv1.norm.num_batches_tracked": ()},
            "unknown .*num_batches_tracked",
        ),
    ],
)
def test_models_that_cannot_be_built_are_refused(
    published_layout: MakeLayout, change: Callable[[Layout], Layout], message: str
) -> None:
    with pytest.raises(WeightsError, match=rf"^a\.pth: .*{message}"):
        ADELAIDET.load(hollow(change(published_layout())), source="a.pth")


def test_a_real_time_model_on_resnet_101_is_not_published(published_layout: MakeLayout) -> None:
    with pytest.raises(WeightsError, match=r"a\.pth: unknown model 'blendmask-550-r101';"):
        ADELAIDET.load(hollow(published_layout(101, realtime=True)), source="a.pth")


def test_categories_of_coco() -> None:
    """As in its annotation files: 80 of 91 ids, in ascending order."""
    missing = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91}
    assert list(COCO_CATEGORY_IDS) == [i for i in range(1, 91) if i not in missing]
    by_id = dict(zip(COCO_CATEGORY_IDS, COCO_CLASS_NAMES, strict=True))
    assert (by_id[1], by_id[13], by_id[67]) == ("person", "stop sign", "dining table")
    assert (by_id[90], len(set(COCO_CLASS_NAMES))) == ("toothbrush", 80)
