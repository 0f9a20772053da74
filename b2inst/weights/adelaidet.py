"""AdelaiDet's BlendMask and CondInst checkpoints."""

from __future__ import annotations

import math
import re
from pathlib import PurePath
from typing import Any

from b2inst.models import Segmenter
from b2inst.models.building import MSRA_BGR
from b2inst.weights.errors import WeightsError
from b2inst.weights.names import Table
from b2inst.weights.published import Checkpoint, Publisher, last_number

_BODY = "backbone.bottom_up"

#: The backbone, as detectron2 names it. torchvision counts the ResNet's stages from 1.
BACKBONE_NAMES: Table = (
    ("stem.conv1", "conv1"),
    ("stem.conv1.norm", "bn1"),
    ("res{n}.{block}.conv{i}", "layer{n-1}.{block}.conv{i}"),
    ("res{n}.{block}.conv{i}.norm", "layer{n-1}.{block}.bn{i}"),
    ("res{n}.{block}.shortcut", "layer{n-1}.{block}.downsample.0"),
    ("res{n}.{block}.shortcut.norm", "layer{n-1}.{block}.downsample.1"),
)

#: The published models. ``last`` is the number of the last layer in the tower of the bases.
NAMES: Table = (
    *((f"{_BODY}.{theirs}", f"backbone.body.{ours}") for theirs, ours in BACKBONE_NAMES),
    ("backbone.fpn_lateral{n}", "backbone.fpn.inner_blocks.{n-3}.0"),
    ("backbone.fpn_output{n}", "backbone.fpn.layer_blocks.{n-3}.0"),
    ("backbone.top_block.p{n}", "backbone.fpn.extra_blocks.p{n}"),
    ("proposal_generator.fcos_head.share_tower.{i}", "instance_head.shared_tower.{i}"),
    ("proposal_generator.fcos_head.cls_tower.{i}", "instance_head.class_tower.{i}"),
    ("proposal_generator.fcos_head.bbox_tower.{i}", "instance_head.box_tower.{i}"),
    ("proposal_generator.fcos_head.cls_logits", "instance_head.class_logits"),
    ("proposal_generator.fcos_head.bbox_pred", "instance_head.distances"),
    ("proposal_generator.fcos_head.ctrness", "instance_head.centerness"),
    ("proposal_generator.fcos_head.scales.{i}", "instance_head.scales.{i}"),
    # BlendMask
    ("top_layer", "instance_head.coefficients"),
    ("basis_module.refine.{i}.{layer}", "basis_head.refine.{i}.{layer}"),
    ("basis_module.tower.{last-1}.{layer}", "basis_head.upsampled_conv.{layer}"),
    ("basis_module.tower.{last}", "basis_head.project"),
    ("basis_module.tower.{i}.{layer}", "basis_head.convs.{i}.{layer}"),
    ("basis_module.seg_head.0", "basis_head.auxiliary.convs.0.0"),
    ("basis_module.seg_head.1", "basis_head.auxiliary.convs.0.1"),
    ("basis_module.seg_head.3", "basis_head.auxiliary.convs.1.0"),
    ("basis_module.seg_head.4", "basis_head.auxiliary.convs.1.1"),
    ("basis_module.seg_head.6", "basis_head.auxiliary.project"),
    # CondInst
    ("controller", "instance_head.coefficients"),
    ("mask_branch.refine.{i}.{layer}", "basis_head.refine.{i}.{layer}"),
    ("mask_branch.tower.{last}", "basis_head.project"),
    ("mask_branch.tower.{i}.{layer}", "basis_head.convs.{i}.{layer}"),
    ("mask_branch.seg_head.{i}.{layer}", "basis_head.auxiliary.convs.{i}.{layer}"),
    ("mask_branch.logits", "basis_head.auxiliary.project"),
)

_CONSTANTS = {
    "pixel_mean": MSRA_BGR["mean"],
    "pixel_std": MSRA_BGR["std"],
    "mask_head.sizes_of_interest": (64, 128, 256, 512, 1024),
}

#: The tower of the bases, whose layers are numbered.
_TOWER = re.compile(r"(?:basis_module|mask_branch)\.tower\.(\d+)\.\w+")


def _build(checkpoint: Checkpoint) -> Segmenter:
    """Family, depth, levels, classes, bases and attention size are read off the tensors."""
    tensors, source = checkpoint.tensors, checkpoint.source
    dynamic = any(name.startswith(("mask_branch.", "controller.")) for name in tensors)
    family = "CondInst" if dynamic else "BlendMask"
    if dynamic and "boxinst" in PurePath(source).name.lower():
        raise WeightsError(
            f"{source}: is of BoxInst by its name, which is CondInst trained without masks, and "
            "not among the models here; give one of AdelaiDet's CondInst models"
        )
    if deformable := next((name for name in tensors if re.search(r"[._]offset\.", name)), None):
        raise WeightsError(
            f"{source}: {deformable} is of a deformable convolution, which the models here do not "
            "have; give one of AdelaiDet's models without 'dcn' in its name"
        )
    depth, blocks = checkpoint.resnet_depth([f"{_BODY}.res{n}" for n in (2, 3, 4, 5)])
    if depth is None:
        raise WeightsError(
            f"{source}: no {family} on ResNet-50 or -101 ({_BODY} has {blocks} blocks in "
            "its stages res2 to res5); give one of AdelaiDet's R_50 or R_101 models"
        )
    trained_norm = f"{_BODY}.stem.conv1.norm.num_batches_tracked" in tensors
    if trained_norm or "backbone.top_block.p6.weight" not in tensors:
        what = "batch norm that was trained" if trained_norm else "no pyramid level P6"
        raise WeightsError(
            f"{source}: has {what}, as AdelaiDet's RT_ models, which cannot be built here; give "
            "550_R_50_3x or one of the R_50 and R_101 models"
        )
    options = _condinst_options(checkpoint) if dynamic else _blendmask_options(checkpoint)
    realtime = not dynamic and "backbone.top_block.p7.weight" not in tensors
    return checkpoint.create_model(
        f"{family.lower()}-{'550-' if realtime else ''}r{depth}",
        _channels(checkpoint, "proposal_generator.fcos_head.cls_logits.weight"),
        msra=True,
        frozen_norm=True,
        **options,
    )


def _blendmask_options(checkpoint: Checkpoint) -> dict[str, Any]:
    last = last_number(_TOWER, checkpoint.tensors)
    bases = _channels(checkpoint, f"basis_module.tower.{last}.weight")
    coefficients = _channels(checkpoint, "top_layer.weight")
    size = math.isqrt(coefficients // bases)
    if bases * size**2 != coefficients:
        raise WeightsError(
            f"{checkpoint.source}: top_layer.weight has {coefficients} channels, which is no "
            f"square attention map for each of {bases} bases"
        )
    return {"num_bases": bases, "attention_size": size}


def _condinst_options(checkpoint: Checkpoint) -> dict[str, Any]:
    last = last_number(_TOWER, checkpoint.tensors)
    bases = _channels(checkpoint, f"mask_branch.tower.{last}.weight")
    return {"num_bases": bases, "semantic": "mask_branch.logits.weight" in checkpoint.tensors}


def _channels(checkpoint: Checkpoint, name: str) -> int:
    return checkpoint.channels(
        name,
        kind="BlendMask or CondInst of AdelaiDet's",
        remedy="give one of the R_50 or R_101 models",
    )


ADELAIDET = Publisher(
    names=NAMES,
    build=_build,
    remedy="give an unchanged checkpoint of AdelaiDet's R_50, R_101 or 550_R_50 BlendMask or its "
    "R_50 or R_101 CondInst",
    not_needed=re.compile(r"pixel_mean|pixel_std|mask_head\.(sizes_of_interest|_iter)"),
    constants=_CONSTANTS,
    numbered=_TOWER,
)
