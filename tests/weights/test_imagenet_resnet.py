from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.models import get_model
from torchvision.ops import FrozenBatchNorm2d

from b2inst.weights import WeightsError
from b2inst.weights.detectron2 import imagenet_resnet

Layout = dict[str, tuple[int, ...]]

#: detectron2 tells what it renames: "stem.conv1.norm.bias loaded from res_conv1_bn_beta".
CAFFE2 = {
    "conv1_w": "conv1.weight",
    "res_conv1_bn_beta": "bn1.bias",
    "res_conv1_bn_running_var": "bn1.running_var",
    "res2_0_branch1_w": "layer1.0.downsample.0.weight",
    "res2_0_branch1_bn_running_mean": "layer1.0.downsample.1.running_mean",
    "res3_1_branch2a_w": "layer2.1.conv1.weight",
    "res4_22_branch2b_bn_gamma": "layer3.22.bn2.weight",
    "res5_2_branch2c_bn_beta": "layer4.2.bn3.bias",
}


def caffe2(name: str) -> str:
    """detectron2's name of a tensor to the published file's."""
    module, _, last = name.rpartition(".")
    norm = module.endswith(".norm")
    module = module.removesuffix(".norm")
    if module == "stem.conv1":
        place = "res_conv1" if norm else "conv1"
    else:
        stage, block, conv = module.split(".")
        branch = {"conv1": "2a", "conv2": "2b", "conv3": "2c", "shortcut": "1"}[conv]
        place = f"{stage}_{block}_branch{branch}"
    norm_last = {"weight": "gamma", "bias": "beta"}.get(last, last)
    return f"{place}_bn_{norm_last}" if norm else f"{place}_w"


@pytest.mark.parametrize("depth", [50, 101])
@pytest.mark.parametrize("rename", [caffe2, lambda name: name], ids=["caffe2", "detectron2"])
def test_every_tensor_of_a_resnet_is_reached(
    backbone_layout: Callable[[int], Layout], depth: int, rename: Callable[[str], str]
) -> None:
    layout = {rename(name): shape for name, shape in backbone_layout(depth).items()}
    tensors = {name: torch.zeros(()).expand(shape) for name, shape in layout.items()}
    for name in ("conv1_b", "fc1000_w", "fc1000_b"):
        tensors[name] = torch.zeros(1)
    with torch.device("meta"):
        resnet = get_model(f"resnet{depth}", norm_layer=FrozenBatchNorm2d)
    expected = {
        f"backbone.body.{name}": value.shape
        for name, value in resnet.state_dict().items()
        if not name.startswith("fc.")
    }
    found = imagenet_resnet(tensors, source="R.pkl")
    assert {name: value.shape for name, value in found.items()} == expected


def test_names_of_the_published_file() -> None:
    tensors: dict[str, Tensor] = {name: torch.tensor(i) for i, name in enumerate(CAFFE2)}
    found = imagenet_resnet(tensors, source="R-50.pkl")
    assert list(found.items()) == [
        (f"backbone.body.{ours}", tensors[theirs]) for theirs, ours in CAFFE2.items()
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("res2_0_branch2a_bn_s", "R-50.pkl: batch norm is folded .* unknown res2_0_branch2a_bn_s"),
        ("layer1.0.conv1.weight", "R-50.pkl: unknown layer1.0.conv1.weight; give detectron2's"),
        ("conv1_w_momentum", "R-50.pkl: unknown conv1_w_momentum"),
    ],
)
def test_other_files_are_refused(name: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        imagenet_resnet({"conv1_w": torch.ones(1), name: torch.ones(1)}, source="R-50.pkl")
