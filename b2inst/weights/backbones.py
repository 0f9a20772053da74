"""detectron2's ImageNet weights of ResNets, which are MSRA's."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from b2inst.weights.adelaidet import BACKBONE_NAMES
from b2inst.weights.errors import WeightsError
from b2inst.weights.names import grouped, translate

#: Parts of Caffe2's names, as the published R-50.pkl and R-101.pkl have them, and detectron2's.
_CAFFE2 = (
    (r"^(res_)?conv1", "stem.conv1"),
    (r"^(res\d)_(\d+)_branch1", r"\1.\2.shortcut"),
    (r"^(res\d)_(\d+)_branch2a", r"\1.\2.conv1"),
    (r"^(res\d)_(\d+)_branch2b", r"\1.\2.conv2"),
    (r"^(res\d)_(\d+)_branch2c", r"\1.\2.conv3"),
    (r"_bn_gamma$", ".norm.weight"),
    (r"_bn_beta$", ".norm.bias"),
    (r"_bn_(running_mean|running_var)$", r".norm.\1"),
    (r"_w$", ".weight"),
)

#: The classifier, and the stem's bias, which detectron2 leaves out as well.
_NOT_NEEDED = ("fc1000_w", "fc1000_b", "stem.fc.weight", "stem.fc.bias", "conv1_b")


def from_detectron2(tensors: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """A published ResNet's tensors by our names, ``backbone.body.…``.

    Args:
        tensors: By Caffe2's names or by detectron2's own.
        source: File, for error messages.

    Raises:
        WeightsError: Tensors have unknown names; all of them are listed.
    """
    dotted = {name: _detectron2_name(name) for name in tensors if name not in _NOT_NEEDED}
    own = translate(dotted.values(), BACKBONE_NAMES)
    if unknown := [name for name, other in dotted.items() if other not in own]:
        folded = any(name.endswith("_bn_s") for name in unknown)
        why = "batch norm is folded into scales, as in Detectron's files: " if folded else ""
        raise WeightsError(
            f"{source}: {why}unknown {grouped(unknown)}; give detectron2's "
            "ImageNetPretrained/MSRA/R-50.pkl or R-101.pkl"
        )
    return {f"backbone.body.{own[other]}": tensors[name] for name, other in dotted.items()}


def _detectron2_name(name: str) -> str:
    for caffe2, detectron2 in _CAFFE2:
        name = re.sub(caffe2, detectron2, name)
    return name
