"""AdelaiDet's BlendMask and CondInst checkpoints."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from torch import Tensor

from b2inst.models import Segmenter
from b2inst.models.building import MSRA_BGR
from b2inst.weights.detectron2 import STAGES, fcos_names
from b2inst.weights.names import Table
from b2inst.weights.published import Publisher, channels, new_model, resnet_depth

NAMES: Table = (
    *fcos_names("instance_head"),
    ("(top_layer|controller)", "instance_head.coefficients"),
    ("(basis_module|mask_branch).refine.{i}.{layer}", "basis_head.refine.{i}.{layer}"),
    ("(basis_module|mask_branch).tower.{last}", "basis_head.project"),
    # BlendMask; a tower without number 3 (upsampling) has three convolutions before, else two
    ("basis_module.tower.(3|4).{layer}", "basis_head.upsampled_conv.{layer}"),
    ("(basis_module|mask_branch).tower.{i}.{layer}", "basis_head.convs.{i}.{layer}"),
    ("basis_module.seg_head.0", "basis_head.auxiliary.convs.0.0"),
    ("basis_module.seg_head.1", "basis_head.auxiliary.convs.0.1"),
    ("basis_module.seg_head.3", "basis_head.auxiliary.convs.1.0"),
    ("basis_module.seg_head.4", "basis_head.auxiliary.convs.1.1"),
    ("basis_module.seg_head.6", "basis_head.auxiliary.project"),
    # CondInst
    ("mask_branch.seg_head.{i}.{layer}", "basis_head.auxiliary.convs.{i}.{layer}"),
    ("mask_branch.logits", "basis_head.auxiliary.project"),
)

_PROJECT = re.compile(r"(?:basis_module|mask_branch)\.tower\.\d+\.weight")


def _build(tensors: Mapping[str, Tensor], source: str) -> Segmenter:
    """Family, depth, levels, classes, bases and attention size are read off the tensors."""
    depth = resnet_depth(tensors, STAGES)
    project = next((name for name in tensors if _PROJECT.fullmatch(name)), "basis_module.tower")
    bases = channels(tensors, project)
    options: dict[str, Any] = {"num_bases": bases, "msra": True, "frozen_norm": True}
    if project.startswith("mask_branch"):
        if "boxinst" in PurePath(source).name.lower():
            raise ValueError("is of BoxInst by its name, a CondInst trained without masks")
        family = "condinst"
        options["semantic"] = "mask_branch.logits.weight" in tensors
    else:
        family = "blendmask" if "backbone.top_block.p7.weight" in tensors else "blendmask-550"
        options["attention_size"] = math.isqrt(channels(tensors, "top_layer.weight") // bases)
    classes = channels(tensors, "proposal_generator.fcos_head.cls_logits.weight")
    return new_model(f"{family}-r{depth}", classes, **options)


ADELAIDET = Publisher(
    tables=(NAMES,),
    build=_build,
    remedy="give an unchanged checkpoint of AdelaiDet's R_50, R_101 or 550_R_50 BlendMask or its "
    "R_50 or R_101 CondInst",
    not_needed=re.compile(r"pixel_mean|pixel_std|mask_head\.(sizes_of_interest|_iter)"),
    constants={
        "pixel_mean": MSRA_BGR["mean"],
        "pixel_std": MSRA_BGR["std"],
        "mask_head.sizes_of_interest": (64, 128, 256, 512, 1024),
    },
)
