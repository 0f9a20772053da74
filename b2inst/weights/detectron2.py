"""detectron2's PointRend checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from b2inst.models import Segmenter
from b2inst.models.building import MSRA_BGR
from b2inst.weights.adelaidet import BACKBONE_NAMES
from b2inst.weights.errors import WeightsError
from b2inst.weights.names import Table
from b2inst.weights.published import Checkpoint, Publisher

_BODY = "backbone.bottom_up"

#: The published models; the first ones call some parts of the mask head otherwise.
NAMES: Table = (
    *((f"{_BODY}.{theirs}", f"backbone.body.{ours}") for theirs, ours in BACKBONE_NAMES),
    ("backbone.fpn_lateral{n}", "backbone.fpn.inner_blocks.{n-2}.0"),
    ("backbone.fpn_output{n}", "backbone.fpn.layer_blocks.{n-2}.0"),
    ("proposal_generator.rpn_head.conv", "detector.rpn.head.conv.0.0"),
    ("proposal_generator.rpn_head.objectness_logits", "detector.rpn.head.cls_logits"),
    ("proposal_generator.rpn_head.anchor_deltas", "detector.rpn.head.bbox_pred"),
    ("roi_heads.box_head.fc{n}", "detector.roi_heads.box_head.fc{n+5}"),
    ("roi_heads.box_predictor.cls_score", "detector.roi_heads.box_predictor.cls_score"),
    ("roi_heads.box_predictor.bbox_pred", "detector.roi_heads.box_predictor.bbox_pred"),
    *(
        (f"roi_heads.{theirs}", f"mask_head.{ours}")
        for head in ("mask_head.coarse_head", "mask_coarse_head")
        for theirs, ours in (
            (f"{head}.reduce_spatial_dim_conv", "reduce.0"),
            (f"{head}.fc1", "coarse.1"),
            (f"{head}.fc2", "coarse.4"),
            (f"{head}.coarse_mask_fc1", "coarse.1"),
            (f"{head}.coarse_mask_fc2", "coarse.4"),
            (f"{head}.prediction", "coarse.7"),
        )
    ),
    *(
        (f"roi_heads.{theirs}", f"mask_head.point_head.{ours}")
        for head in ("mask_head.point_head", "mask_point_head")
        for theirs, ours in (
            (f"{head}.fc{{n}}", "layers.{n-1}"),
            (f"{head}.predictor", "predictor"),
        )
    ),
)


class _Detectron2(Publisher):
    def load(self, tensors: Mapping[str, Tensor], *, source: str) -> Segmenter:
        return super().load(_rearranged(tensors), source=source)


def _rearranged(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As torchvision has them: background first, with a box; no kernels of single points."""
    changed = dict(tensors)
    for name, value in tensors.items():
        if ".box_predictor.cls_score." in name:
            changed[name] = value.roll(1, 0)
        elif ".box_predictor.bbox_pred." in name:
            changed[name] = torch.cat([torch.zeros_like(value[:4]), value])
        elif "point_head." in name and value.ndim == 3:
            changed[name] = value.flatten(1)
    return changed


def _build(checkpoint: Checkpoint) -> Segmenter:
    """Depth and classes are read off the tensors."""
    depth, blocks = checkpoint.resnet_depth([f"{_BODY}.res{n}" for n in (2, 3, 4, 5)])
    if depth is None:
        raise WeightsError(
            f"{checkpoint.source}: no PointRend on ResNet-50 or -101 ({_BODY} has {blocks} blocks "
            "in its stages res2 to res5); give one of PointRend's R_50_FPN or R_101_FPN models"
        )
    classes = (
        checkpoint.channels(
            "roi_heads.box_predictor.cls_score.weight",
            kind="PointRend of detectron2's",
            remedy="give one of PointRend's R_50_FPN or R_101_FPN models",
        )
        - 1
    )
    return checkpoint.create_model(f"pointrend-r{depth}", classes, msra=True, frozen_norm=True)


DETECTRON2 = _Detectron2(
    names=NAMES,
    build=_build,
    remedy="give an unchanged checkpoint of PointRend's R_50_FPN or R_101_FPN models for instance "
    "segmentation",
    not_needed=re.compile(r"pixel_mean|pixel_std|proposal_generator\.anchor_generator\..*"),
    constants={"pixel_mean": MSRA_BGR["mean"], "pixel_std": MSRA_BGR["std"]},
)
