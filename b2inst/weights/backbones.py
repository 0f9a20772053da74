"""detectron2's ImageNet weights of ResNets, which are MSRA's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from b2inst.weights.adelaidet import BACKBONE_NAMES
from b2inst.weights.errors import WeightsError
from b2inst.weights.names import Table, grouped, translate

#: Caffe2's names, as the published R-50.pkl and R-101.pkl have them, with detectron2's endings.
CAFFE2_NAMES: Table = (
    ("res_conv1.norm", "bn1"),
    ("conv1", "conv1"),
    ("res{n}_{block}_branch2a", "layer{n-1}.{block}.conv1"),
    ("res{n}_{block}_branch2a.norm", "layer{n-1}.{block}.bn1"),
    ("res{n}_{block}_branch2b", "layer{n-1}.{block}.conv2"),
    ("res{n}_{block}_branch2b.norm", "layer{n-1}.{block}.bn2"),
    ("res{n}_{block}_branch2c", "layer{n-1}.{block}.conv3"),
    ("res{n}_{block}_branch2c.norm", "layer{n-1}.{block}.bn3"),
    ("res{n}_{block}_branch1", "layer{n-1}.{block}.downsample.0"),
    ("res{n}_{block}_branch1.norm", "layer{n-1}.{block}.downsample.1"),
)

#: Endings of names in Caffe2 and in detectron2.
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
        source: named in errors as the place the tensors come from.

    Raises:
        WeightsError: tensors of unknown names, all of them listed.
    """
    dotted = {name: _detectron2_ending(name) for name in tensors}
    own = translate(dotted.values(), CAFFE2_NAMES + BACKBONE_NAMES)
    unknown = [name for name in tensors if dotted[name] not in own and name not in NOT_NEEDED]
    if unknown:
        folded = any(name.endswith("_bn_s") for name in unknown)
        raise WeightsError(
            f"{source}: "
            + ("batch norm is folded into scales, as in Detectron's files: " if folded else "")
            + f"unknown {grouped(unknown)}; give detectron2's ImageNetPretrained/MSRA/R-50.pkl or "
            "R-101.pkl"
        )
    return {
        f"backbone.body.{own[other]}": tensors[name]
        for name, other in dotted.items()
        if other in own
    }


def _detectron2_ending(name: str) -> str:
    for caffe2, detectron2 in CAFFE2_ENDS.items():
        if name.endswith(caffe2):
            return name.removesuffix(caffe2) + detectron2
    return name
