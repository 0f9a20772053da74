"""detectron2's checkpoints: backbones trained on ImageNet, PointRend and CenterMask."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from b2inst.models import Segmenter
from b2inst.weights.errors import WeightsError
from b2inst.weights.names import Table, grouped, translate
from b2inst.weights.published import Publisher, channels, new_model, resnet_depth

#: Stages of the ResNet below a pyramid.
STAGES = tuple(f"backbone.bottom_up.res{n}" for n in (2, 3, 4, 5))

#: The ResNet. torchvision counts its stages from 1.
_RESNET_NAMES: Table = (
    ("stem.conv1", "conv1"),
    ("stem.conv1.norm", "bn1"),
    ("res{n}.{block}.conv{i}", "layer{n-1}.{block}.conv{i}"),
    ("res{n}.{block}.conv{i}.norm", "layer{n-1}.{block}.bn{i}"),
    ("res{n}.{block}.shortcut", "layer{n-1}.{block}.downsample.0"),
    ("res{n}.{block}.shortcut.norm", "layer{n-1}.{block}.downsample.1"),
)
_BODY_NAMES: Table = tuple(
    (f"backbone.bottom_up.{theirs}", f"backbone.body.{ours}") for theirs, ours in _RESNET_NAMES
)


def fcos_names(head: str) -> Table:
    """The ResNet, the pyramid from level 3 on, and FCOS's head, which is called ``head`` here."""
    fcos = "proposal_generator.fcos_head"
    return (
        *_BODY_NAMES,
        ("backbone.fpn_lateral{n}", "backbone.fpn.inner_blocks.{n-3}.0"),
        ("backbone.fpn_output{n}", "backbone.fpn.layer_blocks.{n-3}.0"),
        ("backbone.top_block.p{n}", "backbone.fpn.extra_blocks.p{n}"),
        (f"{fcos}.share_tower.{{i}}", f"{head}.shared_tower.{{i}}"),
        (f"{fcos}.cls_tower.{{i}}", f"{head}.class_tower.{{i}}"),
        (f"{fcos}.bbox_tower.{{i}}", f"{head}.box_tower.{{i}}"),
        (f"{fcos}.cls_logits", f"{head}.class_logits"),
        (f"{fcos}.bbox_pred", f"{head}.distances"),
        (f"{fcos}.ctrness", f"{head}.centerness"),
        (f"{fcos}.scales.{{i}}", f"{head}.scales.{{i}}"),
    )


#: PointRend's models; the first ones call some parts of the mask head otherwise.
_POINTREND_NAMES: Table = (
    *_BODY_NAMES,
    ("backbone.fpn_lateral{n}", "backbone.fpn.inner_blocks.{n-2}.0"),
    ("backbone.fpn_output{n}", "backbone.fpn.layer_blocks.{n-2}.0"),
    ("proposal_generator.rpn_head.conv", "detector.rpn.head.conv.0.0"),
    ("proposal_generator.rpn_head.objectness_logits", "detector.rpn.head.cls_logits"),
    ("proposal_generator.rpn_head.anchor_deltas", "detector.rpn.head.bbox_pred"),
    ("roi_heads.box_head.fc{n}", "detector.roi_heads.box_head.fc{n+5}"),
    ("roi_heads.box_predictor.cls_score", "detector.roi_heads.box_predictor.cls_score"),
    ("roi_heads.box_predictor.bbox_pred", "detector.roi_heads.box_predictor.bbox_pred"),
    ("roi_heads.mask_(head.)?coarse_head.reduce_spatial_dim_conv", "mask_head.reduce.0"),
    ("roi_heads.mask_(head.)?coarse_head.(coarse_mask_)?fc1", "mask_head.coarse.1"),
    ("roi_heads.mask_(head.)?coarse_head.(coarse_mask_)?fc2", "mask_head.coarse.4"),
    ("roi_heads.mask_(head.)?coarse_head.prediction", "mask_head.coarse.7"),
    ("roi_heads.mask_(head.)?point_head.fc{n}", "mask_head.point_head.layers.{n-1}"),
    ("roi_heads.mask_(head.)?point_head.predictor", "mask_head.point_head.predictor"),
)

_CENTERMASK_NAMES: Table = (
    *fcos_names("detector.head"),
    ("roi_heads.mask_head.mask_fcn{n}", "mask_head.convs.{n-1}.0"),
    ("roi_heads.mask_head.spatialAtt.conv", "mask_head.attention.conv"),
    ("roi_heads.mask_head.deconv", "mask_head.predictor.conv5_mask"),
    ("roi_heads.mask_head.predictor", "mask_head.predictor.mask_fcn_logits"),
    ("roi_heads.maskiou_head.maskiou_fcn{n}", "scoring_head.convs.{n-1}.0"),
    ("roi_heads.maskiou_head.maskiou_fc1", "scoring_head.regress.1"),
    ("roi_heads.maskiou_head.maskiou_fc2", "scoring_head.regress.4"),
    ("roi_heads.maskiou_head.maskiou", "scoring_head.regress.7"),
)

#: Weights whose first dimension is the number of classes.
_CENTERMASK = "proposal_generator.fcos_head.cls_logits.weight"
_POINTREND = "roi_heads.box_predictor.cls_score.weight"

#: Parts of Caffe2's names, as the published R-50.pkl and R-101.pkl have them, and detectron2's.
_CAFFE2 = (
    (r"^(res_)?conv1", "stem.conv1"),
    (r"^(res\d)_(\d+)_branch1", r"\1.\2.shortcut"),
    (r"^(res\d)_(\d+)_branch2a", r"\1.\2.conv1"),
    (r"^(res\d)_(\d+)_branch2b", r"\1.\2.conv2"),
    (r"^(res\d)_(\d+)_branch2c", r"\1.\2.conv3"),
    (r"_bn_gamma$", ".norm.weight"),
    (r"_bn_beta$", ".norm.bias"),
    (r"_bn_running_(mean|var)$", r".norm.running_\1"),
    (r"_w$", ".weight"),
)

#: The classifier, and the stem's bias, which detectron2 leaves out as well.
_NOT_NEEDED = ("fc1000_w", "fc1000_b", "stem.fc.weight", "stem.fc.bias", "conv1_b")


def imagenet_resnet(tensors: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """Rename a published MSRA ResNet's tensors, which have Caffe2's or detectron2's own names.

    Raises:
        WeightsError: Tensors have unknown names; all of them are listed.
    """
    dotted = {name: name for name in tensors if name not in _NOT_NEEDED}
    for caffe2, detectron2 in _CAFFE2:
        dotted = {name: re.sub(caffe2, detectron2, other) for name, other in dotted.items()}
    own = translate(dotted.values(), _RESNET_NAMES)
    if unknown := [name for name, other in dotted.items() if other not in own]:
        folded = any(name.endswith("_bn_s") for name in unknown)
        why = "batch norm is folded into scales, as in Detectron's files: " if folded else ""
        raise WeightsError(
            f"{source}: {why}unknown {grouped(unknown)}; give detectron2's "
            "ImageNetPretrained/MSRA/R-50.pkl or R-101.pkl"
        )
    return {f"backbone.body.{own[other]}": tensors[name] for name, other in dotted.items()}


def _build(tensors: Mapping[str, Tensor], _: str) -> Segmenter:
    """Family, depth and classes are read off the tensors."""
    depth = resnet_depth(tensors, STAGES)
    if _CENTERMASK in tensors:
        family, classes = "centermask", channels(tensors, _CENTERMASK)
    else:
        family, classes = "pointrend", channels(tensors, _POINTREND) - 1
    return new_model(f"{family}-r{depth}", classes, msra=True, frozen_norm=True)


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


DETECTRON2 = Publisher(
    tables=(_POINTREND_NAMES, _CENTERMASK_NAMES),
    build=_build,
    remedy="give one of PointRend's or CenterMask's R_50_FPN or R_101_FPN models",
    not_needed=re.compile(r"pixel_mean|pixel_std|proposal_generator\.anchor_generator\..*"),
    rearrange=_rearranged,
)
