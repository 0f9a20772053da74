"""Checkpoints of projects on detectron2: PointRend and CenterMask."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from b2inst.models import Segmenter
from b2inst.weights.adelaidet import BACKBONE_NAMES
from b2inst.weights.names import Table, translate
from b2inst.weights.published import Checkpoint, Publisher

_BODY = "backbone.bottom_up"

_BODY_NAMES: Table = tuple(
    (f"{_BODY}.{theirs}", f"backbone.body.{ours}") for theirs, ours in BACKBONE_NAMES
)

#: PointRend's models; the first ones call some parts of the mask head otherwise.
POINTREND_NAMES: Table = (
    *_BODY_NAMES,
    ("backbone.fpn_lateral{n}", "backbone.fpn.inner_blocks.{n-2}.0"),
    ("backbone.fpn_output{n}", "backbone.fpn.layer_blocks.{n-2}.0"),
    ("proposal_generator.rpn_head.conv", "detector.rpn.head.conv.0.0"),
    ("proposal_generator.rpn_head.objectness_logits", "detector.rpn.head.cls_logits"),
    ("proposal_generator.rpn_head.anchor_deltas", "detector.rpn.head.bbox_pred"),
    ("roi_heads.box_head.fc{n}", "detector.roi_heads.box_head.fc{n+5}"),
    ("roi_heads.box_predictor.cls_score", "detector.roi_heads.box_predictor.cls_score"),
    ("roi_heads.box_predictor.bbox_pred", "detector.roi_heads.box_predictor.bbox_pred"),
    *(
        (f"roi_heads.{head}.{theirs}", f"mask_head.{ours}")
        for head in ("mask_head.coarse_head", "mask_coarse_head")
        for theirs, ours in (
            ("reduce_spatial_dim_conv", "reduce.0"),
            ("fc1", "coarse.1"),
            ("fc2", "coarse.4"),
            ("coarse_mask_fc1", "coarse.1"),
            ("coarse_mask_fc2", "coarse.4"),
            ("prediction", "coarse.7"),
        )
    ),
    *(
        (f"roi_heads.{head}.{theirs}", f"mask_head.point_head.{ours}")
        for head in ("mask_head.point_head", "mask_point_head")
        for theirs, ours in (("fc{n}", "layers.{n-1}"), ("predictor", "predictor"))
    ),
)

#: CenterMask's models.
CENTERMASK_NAMES: Table = (
    *_BODY_NAMES,
    ("backbone.fpn_lateral{n}", "backbone.fpn.inner_blocks.{n-3}.0"),
    ("backbone.fpn_output{n}", "backbone.fpn.layer_blocks.{n-3}.0"),
    ("backbone.top_block.p{n}", "backbone.fpn.extra_blocks.p{n}"),
    *(
        (f"proposal_generator.fcos_head.{theirs}", f"detector.head.{ours}")
        for theirs, ours in (
            ("cls_tower.{i}", "class_tower.{i}"),
            ("bbox_tower.{i}", "box_tower.{i}"),
            ("cls_logits", "class_logits"),
            ("bbox_pred", "distances"),
            ("ctrness", "centerness"),
            ("scales.{i}", "scales.{i}"),
        )
    ),
    ("roi_heads.mask_head.mask_fcn{n}", "mask_head.convs.{n-1}.0"),
    ("roi_heads.mask_head.spatialAtt.conv", "mask_head.attention.conv"),
    ("roi_heads.mask_head.deconv", "mask_head.predictor.conv5_mask"),
    ("roi_heads.mask_head.predictor", "mask_head.predictor.mask_fcn_logits"),
    ("roi_heads.maskiou_head.maskiou_fcn{n}", "scoring_head.convs.{n-1}.0"),
    ("roi_heads.maskiou_head.maskiou_fc1", "scoring_head.regress.1"),
    ("roi_heads.maskiou_head.maskiou_fc2", "scoring_head.regress.4"),
    ("roi_heads.maskiou_head.maskiou", "scoring_head.regress.7"),
)

#: A weight that only CenterMask has, whose first dimension is the number of classes.
_CENTERMASK = "proposal_generator.fcos_head.cls_logits.weight"
_POINTREND = "roi_heads.box_predictor.cls_score.weight"


class _Detectron2(Publisher):
    def own_names(self, published: Iterable[str]) -> dict[str, str]:
        names = [name for name in published if not self.not_needed.fullmatch(name)]
        return translate(names, CENTERMASK_NAMES if _CENTERMASK in names else POINTREND_NAMES)

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
    """Family, depth and classes are read off the tensors."""
    depth = checkpoint.resnet_depth([f"{_BODY}.res{n}" for n in (2, 3, 4, 5)])
    if _CENTERMASK in checkpoint.tensors:
        family, classes = "centermask", checkpoint.channels(_CENTERMASK)
    else:
        family, classes = "pointrend", checkpoint.channels(_POINTREND) - 1
    return checkpoint.create_model(f"{family}-r{depth}", classes, msra=True, frozen_norm=True)


DETECTRON2 = _Detectron2(
    names=POINTREND_NAMES,
    build=_build,
    remedy="give one of PointRend's or CenterMask's R_50_FPN or R_101_FPN models",
    not_needed=re.compile(r"pixel_mean|pixel_std|proposal_generator\.anchor_generator\..*"),
)
