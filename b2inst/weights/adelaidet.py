"""AdelaiDet's BlendMask and CondInst checkpoints as models of ours."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import torch
from torch import Tensor

from b2inst.models.blendmask import MSRA_BGR
from b2inst.models.catalog import create_model
from b2inst.models.segmenter import BasisSegmenter, with_bases
from b2inst.weights.coco_classes import COCO_CLASS_NAMES
from b2inst.weights.errors import WeightsError
from b2inst.weights.fitting import load_published
from b2inst.weights.names import Table, translate

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

#: The published models. ``last`` is the place of the last layer in the tower of the bases.
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

#: What a checkpoint may hold of constants that our models have, too.
_CONSTANTS: dict[str, Sequence[float]] = {
    "pixel_mean": MSRA_BGR["mean"],
    "pixel_std": MSRA_BGR["std"],
    "mask_head.sizes_of_interest": (64, 128, 256, 512, 1024),
}

#: What a checkpoint may hold that a model needs not: those, and a counter.
NOT_NEEDED = (*_CONSTANTS, "mask_head._iter")

#: Blocks of a ResNet's stages, and its depth.
_DEPTHS = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101}


def from_adelaidet(tensors: Mapping[str, Tensor], *, source: str) -> BasisSegmenter:
    """The model that a published checkpoint holds, with its weights, ready to predict.

    Family, depth, levels, number of classes, bases and attention size are read off the tensors; 80
    classes are those of COCO.

    Args:
        tensors: the checkpoint's state dict.
        source: what errors name as the place the tensors are from.

    Raises:
        WeightsError: not a BlendMask or CondInst of a kind that can be built here, or tensors that
            are missing, unknown or misshaped, all of them listed.
    """
    model = _build(tensors, source)
    own = own_names(tensors)
    load_published(
        model,
        tensors,
        own,
        not_needed=NOT_NEEDED,
        problems=[
            f"{name} is {tensors[name].flatten().tolist()}, ours is {list(values)}"
            for name, values in _CONSTANTS.items()
            if name in tensors and not _close(tensors[name], values)
        ],
        source=source,
        remedy="give an unchanged checkpoint of AdelaiDet's R_50, R_101 or 550_R_50 BlendMask or "
        "its R_50 or R_101 CondInst",
    )
    return model.eval()


def own_names(published: Iterable[str]) -> dict[str, str]:
    """Our name of each of a checkpoint's tensors; those that are unknown are left out."""
    names = list(published)
    return translate(names, NAMES, last=_last(names))


def _build(tensors: Mapping[str, Tensor], source: str) -> BasisSegmenter:
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
    blocks = tuple(
        len({name.split(".")[3] for name in tensors if name.startswith(f"{_BODY}.res{n}.")})
        for n in (2, 3, 4, 5)
    )
    if blocks not in _DEPTHS:
        raise WeightsError(
            f"{source}: no {family} on ResNet-50 or -101 ({_BODY} has {blocks} blocks in "
            "its stages res2 to res5); give one of AdelaiDet's R_50 or R_101 models"
        )
    trained_norm = f"{_BODY}.stem.conv1.norm.num_batches_tracked" in tensors
    if trained_norm or "backbone.top_block.p6.weight" not in tensors:
        found = "batch norm that was trained" if trained_norm else "no pyramid level P6"
        raise WeightsError(
            f"{source}: has {found}, as AdelaiDet's RT_ models, which cannot be built here; give "
            "550_R_50_3x or one of the R_50 and R_101 models"
        )
    options = _condinst(tensors, source) if dynamic else _blendmask(tensors, source)
    short = not dynamic and "backbone.top_block.p7.weight" not in tensors
    classes = _channels(tensors, "proposal_generator.fcos_head.cls_logits.weight", source)
    try:
        model = create_model(
            f"{family.lower()}-{'550-' if short else ''}r{_DEPTHS[blocks]}",
            num_classes=classes,
            class_names=COCO_CLASS_NAMES if classes == len(COCO_CLASS_NAMES) else None,
            msra=True,
            frozen_norm=True,
            **options,
        )
    except ValueError as error:
        raise WeightsError(f"{source}: {error}") from error
    return with_bases(model)


def _blendmask(tensors: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    """Options of the builder."""
    bases = _channels(tensors, f"basis_module.tower.{_last(tensors)}.weight", source)
    coefficients = _channels(tensors, "top_layer.weight", source)
    size = math.isqrt(coefficients // bases)
    if bases * size**2 != coefficients:
        raise WeightsError(
            f"{source}: top_layer.weight has {coefficients} channels, which is no square attention "
            f"map for each of {bases} bases"
        )
    return {"num_bases": bases, "attention_size": size}


def _condinst(tensors: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    """Options of the builder."""
    bases = _channels(tensors, f"mask_branch.tower.{_last(tensors)}.weight", source)
    return {"num_bases": bases, "semantic": "mask_branch.logits.weight" in tensors}


def _last(names: Iterable[str]) -> int:
    """Place of the last layer in the tower of the bases; 0 where there is none."""
    towers = re.compile(r"(?:basis_module|mask_branch)\.tower\.(\d+)\.\w+")
    found = (towers.fullmatch(name) for name in names)
    return max((int(match[1]) for match in found if match), default=0)


def _channels(tensors: Mapping[str, Tensor], name: str, source: str) -> int:
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim == 0 or len(tensor) == 0:
        raise WeightsError(
            f"{source}: no BlendMask or CondInst of AdelaiDet's: {name} is missing or empty; give "
            "one of the R_50 or R_101 models"
        )
    return len(tensor)


def _close(tensor: Tensor, values: Sequence[float]) -> bool:
    return tensor.numel() == len(values) and torch.allclose(
        tensor.flatten().float(), torch.tensor(values, dtype=torch.float32), atol=0.01
    )
