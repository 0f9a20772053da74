"""PointRend's and CenterMask's checkpoints, of the layouts that the reference fixtures list."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from b2inst.cli import app
from b2inst.models import create_model
from b2inst.weights import WeightsError, load_model
from b2inst.weights.detectron2 import DETECTRON2

pytestmark = pytest.mark.skipif(
    "B2INST_REFERENCE" not in os.environ, reason="B2INST_REFERENCE is not set"
)
FAMILIES = ["pointrend", "centermask"]


def published(family: str, *, depth: int = 50) -> dict[str, Tensor]:
    """Tensors that take no memory; a ResNet-101 has more blocks in its third stage."""
    folder = Path(os.environ["B2INST_REFERENCE"])
    spec = json.loads((folder / f"{family}_r50_spec.json").read_text())
    tensors = {name: torch.zeros(()).expand(entry["shape"]) for name, entry in spec.items()}
    for block in range(6, 23 if depth == 101 else 6):
        for name in [name for name in tensors if ".res4.5." in name]:
            tensors[name.replace(".res4.5.", f".res4.{block}.")] = tensors[name]
    return tensors


@pytest.mark.parametrize("depth", [50, 101])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_of_ours_is_reached_exactly_once(family: str, depth: int) -> None:
    with torch.device("meta"):
        model = create_model(f"{family}-r{depth}", num_classes=80, frozen_norm=True)
    tensors = published(family, depth=depth)
    names = DETECTRON2.own_names(tensors)
    assert set(names) == set(tensors)
    assert sorted(names.values()) == sorted(model.state_dict())


def test_names_of_the_first_pointrend_models() -> None:
    """Before detectron2 0.2 the mask head's parts belonged to the RoI heads."""
    pairs = {
        "roi_heads.mask_coarse_head.coarse_mask_fc2.bias": "mask_head.coarse.4.bias",
        "roi_heads.mask_coarse_head.reduce_spatial_dim_conv.weight": "mask_head.reduce.0.weight",
        "roi_heads.mask_coarse_head.prediction.bias": "mask_head.coarse.7.bias",
        "roi_heads.mask_point_head.fc3.weight": "mask_head.point_head.layers.2.weight",
        "roi_heads.mask_point_head.predictor.weight": "mask_head.point_head.predictor.weight",
    }
    assert DETECTRON2.own_names([*pairs, "pixel_mean"]) == pairs


def test_the_background_moves_to_the_front_and_gets_a_box() -> None:
    tensors = published("pointrend")
    prefix = "roi_heads.box_predictor"
    scores, deltas = torch.arange(81.0), torch.arange(320.0)
    tensors |= {f"{prefix}.cls_score.bias": scores, f"{prefix}.bbox_pred.bias": deltas}
    model = DETECTRON2.load(tensors, source="a.pkl")
    own = model.detector.roi_heads.box_predictor  # type: ignore[union-attr]
    assert own.cls_score.bias.tolist() == [80, *range(80)]  # type: ignore[union-attr]
    assert own.bbox_pred.bias.tolist() == [0, 0, 0, 0, *range(320)]  # type: ignore[union-attr]


@pytest.mark.parametrize("family", FAMILIES)
def test_all_tensors_or_none(family: str) -> None:
    tensors = published(family)
    more = tensors | {"roi_heads.keypoint_head.weight": torch.zeros(1)}
    with pytest.raises(WeightsError, match=r"a\.pkl: .*unknown roi_heads\.keypoint_head\.weight"):
        DETECTRON2.load(more, source="a.pkl")
    less = {name: t for name, t in tensors.items() if "predictor.weight" not in name}
    with pytest.raises(WeightsError, match=r"Missing key.*mask_head"):
        DETECTRON2.load(less, source="a.pkl")
    other = {name: t for name, t in tensors.items() if ".res5." not in name}
    with pytest.raises(WeightsError, match=r"no ResNet-50 or -101 .*R_50_FPN"):
        DETECTRON2.load(other, source="a.pkl")
    with pytest.raises(WeightsError, match=r"roi_heads.box_predictor.cls_score.weight is missing"):
        DETECTRON2.load(
            {name: t for name, t in tensors.items() if name.startswith("backbone")}, source="a.pkl"
        )


def test_convert_writes_a_model_that_loads(tmp_path: Path) -> None:
    tensors = {name: t.clone() for name, t in published("pointrend").items()}
    tensors["pixel_mean"] = torch.tensor([103.53, 116.28, 123.675]).view(3, 1, 1)
    tensors["proposal_generator.anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)
    torch.save({"model": tensors}, tmp_path / "model.pth")
    source, target = str(tmp_path / "model.pth"), str(tmp_path / "m.safetensors")
    call = CliRunner().invoke(app, ["convert", source, target, "--from", "detectron2"])
    assert call.exit_code == 0, call.output
    assert "pointrend-r50, classes: 80 (COCO's)" in call.output
    assert "not needed: 2" in call.output
    assert load_model(target).recipe["name"] == "pointrend-r50"
