"""Checkpoints of the YOLACT that was published as dbolya/yolact."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath

from torch import Tensor

from b2inst.models import Segmenter
from b2inst.weights.names import Table
from b2inst.weights.published import Publisher, channels, new_model, resnet_depth

#: The published YOLACT counts the pyramid's levels from the coarsest.
NAMES: Table = (
    ("backbone.conv1", "backbone.body.conv1"),
    ("backbone.bn1", "backbone.body.bn1"),
    *(
        (f"backbone.layers.{{n}}.{{block}}.{part}", f"backbone.body.layer{{n+1}}.{{block}}.{part}")
        for part in ("conv{i}", "bn{i}", "downsample.{i}")
    ),
    *((f"fpn.lat_layers.{i}", f"backbone.lateral.{2 - i}") for i in range(3)),
    *((f"fpn.pred_layers.{i}", f"backbone.output.{2 - i}") for i in range(3)),
    ("fpn.downsample_layers.{n}", "backbone.top.{n}"),
    ("prediction_layers.0.upfeature.0", "instance_head.tower"),
    ("prediction_layers.0.bbox_layer", "instance_head.offsets"),
    ("prediction_layers.0.conf_layer", "instance_head.class_logits"),
    ("prediction_layers.0.mask_layer", "instance_head.coefficients"),
    *((f"proto_net.{2 * i}", f"basis_head.convs.{i}") for i in range(3)),
    ("proto_net.8", "basis_head.upsampled_conv"),
    ("proto_net.10", "basis_head.project"),
    ("semantic_seg_conv", "basis_head.auxiliary.project"),
)

_PRIORS = 3  # prior boxes at a position


def _build(tensors: Mapping[str, Tensor], source: str) -> Segmenter:
    """Depth, classes and prototypes are read off the tensors, the image size off the file's name.

    As in the published code it is 700 in ``yolact_im700_…``, and 550 without such a part.
    """
    depth = resnet_depth(tensors, [f"backbone.layers.{n}" for n in range(4)])
    classes = channels(tensors, "prediction_layers.0.conf_layer.weight") // _PRIORS - 1
    size = re.search(r"_im(\d+)_", PurePath(source).name)
    return new_model(
        f"yolact-r{depth}",
        classes,
        num_bases=channels(tensors, "proto_net.10.weight"),
        size=int(size[1]) if size else 550,
    )


YOLACT = Publisher(
    tables=(NAMES,),
    build=_build,
    remedy="give an unchanged checkpoint of YOLACT on ResNet-50 or -101",
    # What older checkpoints hold twice, or of levels that no configuration uses.
    not_needed=re.compile(r"backbone\.layer\d.*|fpn\.downsample_layers\.([2-9]|\d\d).*"),
)
