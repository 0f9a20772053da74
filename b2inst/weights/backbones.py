"""detectron2's ImageNet weights of ResNets, which are MSRA's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from b2inst.weights.adelaidet import BACKBONE_NAMES
from b2inst.weights.errors import WeightsError
from b2inst.weights.names import Table, grouped, translate

#: Caffe2's names, as the published R-50.pkl and R-101.pkl have them, and detectron2's.
CAFFE2_NAMES: Table = (
    ("conv1", "stem.conv1"),
    ("res_conv1.norm", "stem.conv1.norm"),
    ("res{n}_{block}_branch2a", "res{n}.{block}.conv1"),
    ("res{n}_{block}_branch2a.norm", "res{n}.{block}.conv1.norm"),
    ("res{n}_{block}_branch2b", "res{n}.{block}.conv2"),
    ("res{n}_{block}_branch2b.norm", "res{n}.{block}.conv2.norm"),
    ("res{n}_{block}_branch2c", "res{n}.{block}.conv3"),
    ("res{n}_{block}_branch2c.norm", "res{n}.{block}.conv3.norm"),
    ("res{n}_{block}_branch1", "res{n}.{block}.shortcut"),
    ("res{n}_{block}_branch1.norm", "res{n}.{block}.shortcut.norm"),
)

#: How names end in Caffe2 and in detectron2.
CAFFE2_ENDS = {
    "_bn_gamma": ".norm.weight",
    "_bn_beta": ".norm.bias",
    "_bn_running_mean": ".norm.running_mean",
    "_bn_running_var": ".norm.running_var",
    "_w": ".weight",
}

#: The classifier, and the stem's bias, which detectron2 leaves out as well.
NOT_NEEDED = ("fc1000_w", "fc1000_b", "stem.fc.weight", "stem.fc.bias", "conv1_b")


def from_detectron2(tensors: Mapping[str, Tensor], *, source: str) -> dict[str, Tensor]:
    """A published ResNet's tensors by our names, ``backbone.body.…``.

    Args:
        tensors: by Caffe2's names or by detectron2's own.
        source: what errors name as the place the tensors are from.

    Raises:
        WeightsError: tensors of unknown names, all of them listed.
    """
    own = own_names(tensors)
    unknown = [name for name in tensors if name not in own and name not in NOT_NEEDED]
    if unknown:
        folded = any(name.endswith("_bn_s") for name in unknown)
        raise WeightsError(
            f"{source}: "
            + ("batch norm is folded into scales, as in Detectron's files: " if folded else "")
            + f"unknown {grouped(unknown)}; give detectron2's ImageNetPretrained/MSRA/R-50.pkl or "
            "R-101.pkl"
        )
    return {f"backbone.body.{ours}": tensors[name] for name, ours in own.items()}


def own_names(published: Iterable[str]) -> dict[str, str]:
    """Our name in a ResNet of each published tensor; those that are unknown are left out."""
    dotted = {name: _dotted(name) for name in published}
    caffe2 = translate(dotted.values(), CAFFE2_NAMES)
    detectron2 = {name: caffe2.get(other, other) for name, other in dotted.items()}
    own = translate(detectron2.values(), BACKBONE_NAMES)
    return {name: own[other] for name, other in detectron2.items() if other in own}


def _dotted(name: str) -> str:
    for theirs, detectron2 in CAFFE2_ENDS.items():
        if name.endswith(theirs):
            return name.removesuffix(theirs) + detectron2
    return name
