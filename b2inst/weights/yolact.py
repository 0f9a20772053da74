"""Checkpoints of the YOLACT that was published as dbolya/yolact, as models of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePath

from torch import Tensor

from b2inst.models.catalog import create_model
from b2inst.models.segmenter import BasisSegmenter, with_bases
from b2inst.weights.coco_classes import COCO_CLASS_NAMES
from b2inst.weights.errors import WeightsError
from b2inst.weights.fitting import load_published
from b2inst.weights.names import Table, translate

#: The published YOLACT; it counts the pyramid's levels from the coarsest.
NAMES: Table = (
    ("backbone.conv1", "backbone.body.conv1"),
    ("backbone.bn1", "backbone.body.bn1"),
    *(
        (f"backbone.layers.{{n}}.{{block}}.{part}", f"backbone.body.layer{{n+1}}.{{block}}.{part}")
        for part in ("conv{i}", "bn{i}", "downsample.{i}")
    ),
    ("fpn.lat_layers.0", "backbone.lateral.2"),
    ("fpn.lat_layers.1", "backbone.lateral.1"),
    ("fpn.lat_layers.2", "backbone.lateral.0"),
    ("fpn.pred_layers.0", "backbone.output.2"),
    ("fpn.pred_layers.1", "backbone.output.1"),
    ("fpn.pred_layers.2", "backbone.output.0"),
    ("fpn.downsample_layers.{n}", "backbone.top.{n}"),
    ("prediction_layers.0.upfeature.0", "instance_head.tower"),
    ("prediction_layers.0.bbox_layer", "instance_head.offsets"),
    ("prediction_layers.0.conf_layer", "instance_head.class_logits"),
    ("prediction_layers.0.mask_layer", "instance_head.coefficients"),
    ("proto_net.0", "basis_head.convs.0"),
    ("proto_net.2", "basis_head.convs.1"),
    ("proto_net.4", "basis_head.convs.2"),
    ("proto_net.8", "basis_head.upsampled_conv"),
    ("proto_net.10", "basis_head.project"),
    ("semantic_seg_conv", "basis_head.auxiliary.project"),
)

#: What older checkpoints hold twice, or of levels that no configuration uses.
_LEFT_OVER = re.compile(r"backbone\.layer\d.*|fpn\.downsample_layers\.([2-9]|\d\d).*")

_REMEDY = "give an unchanged checkpoint of YOLACT on ResNet-50 or -101"

_FACTORS = 3  # prior boxes at a position
_DEPTHS = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101}


def from_yolact(tensors: Mapping[str, Tensor], *, source: str) -> BasisSegmenter:
    """The model that a published YOLACT checkpoint holds, with its weights, ready to predict.

    Depth, number of classes and of prototypes are read off the tensors; 80 classes are those of
    COCO. The image size shows in no tensor: as in the published code it is in the file's name,
    700 in ``yolact_im700_…`` and 550 without such a part.

    Args:
        tensors: the checkpoint's state dict.
        source: the checkpoint's path, which errors name.

    Raises:
        WeightsError: not a YOLACT of a kind that can be built here, or tensors that are missing,
            unknown or misshaped, all of them listed.
    """
    model = _build(tensors, source)
    own = own_names(tensors)
    not_needed = left_over(tensors)
    load_published(model, tensors, own, not_needed=not_needed, source=source, remedy=_REMEDY)
    return model.eval()


def own_names(published: Iterable[str]) -> dict[str, str]:
    """Our name of each of a checkpoint's tensors; those that are unknown are left out."""
    return translate([name for name in published if not _LEFT_OVER.fullmatch(name)], NAMES)


def left_over(published: Iterable[str]) -> list[str]:
    """Those of a checkpoint's tensors that the published code itself does not use."""
    return [name for name in published if _LEFT_OVER.fullmatch(name)]


def _build(tensors: Mapping[str, Tensor], source: str) -> BasisSegmenter:
    plus = next((n for n in tensors if "conv_offset" in n or n.startswith("maskiou_net")), None)
    if plus is not None:
        raise WeightsError(
            f"{source}: {plus} is of YOLACT++ (deformable convolutions, mask rescoring), which "
            f"the models here do not have; {_REMEDY}"
        )
    blocks = tuple(
        len({name.split(".")[3] for name in tensors if name.startswith(f"backbone.layers.{n}.")})
        for n in range(4)
    )
    if blocks not in _DEPTHS or "backbone.layers.0.0.bn3.weight" not in tensors:
        raise WeightsError(
            f"{source}: no YOLACT on ResNet-50 or -101 (backbone.layers has {blocks} blocks in its "
            f"four stages); {_REMEDY}"
        )
    classes = _channels(tensors, "prediction_layers.0.conf_layer.weight", source) // _FACTORS - 1
    bases = _channels(tensors, "proto_net.10.weight", source)
    size = re.search(r"_im(\d+)_", PurePath(source).name)
    model = create_model(
        f"yolact-r{_DEPTHS[blocks]}",
        num_classes=classes,
        class_names=COCO_CLASS_NAMES if classes == len(COCO_CLASS_NAMES) else None,
        num_bases=bases,
        size=int(size[1]) if size else 550,
    )
    return with_bases(model)


def _channels(tensors: Mapping[str, Tensor], name: str, source: str) -> int:
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim == 0 or len(tensor) == 0:
        raise WeightsError(f"{source}: no YOLACT: {name} is missing or empty; {_REMEDY}")
    return len(tensor)
