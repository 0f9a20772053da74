from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from b2inst.models import create_model
from b2inst.modules.prior_box_head import PriorBoxHead
from b2inst.weights import WeightsError, load_model
from b2inst.weights.convert import convert
from b2inst.weights.published import COCO_CLASS_NAMES
from b2inst.weights.yolact import YOLACT

Layout = dict[str, tuple[int, ...]]


def conv(name: str, out: int, into: int, size: int, *, bias: bool = True) -> Layout:
    return {f"{name}.weight": (out, into, size, size)} | ({f"{name}.bias": (out,)} if bias else {})


def norm(name: str, channels: int) -> Layout:
    last = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{value}": (channels,) for value in last} | {f"{name}.num_batches_tracked": ()}


def published(depth: int = 50, classes: int = 80) -> Layout:
    """Names and shapes of dbolya/yolact's checkpoint."""
    layout = conv("backbone.conv1", 64, 3, 7, bias=False) | norm("backbone.bn1", 64)
    before = 64
    for stage, count in enumerate({50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]):
        width = 64 * 2**stage
        for block in range(count):
            place = f"backbone.layers.{stage}.{block}"
            for i, (out, into, size) in enumerate(
                [(width, before, 1), (width, width, 3), (4 * width, width, 1)], start=1
            ):
                layout |= conv(f"{place}.conv{i}", out, into, size, bias=False)
                layout |= norm(f"{place}.bn{i}", out)
            if block == 0:
                layout |= conv(f"{place}.downsample.0", 4 * width, before, 1, bias=False)
                layout |= norm(f"{place}.downsample.1", 4 * width)
            before = 4 * width
    for i, channels in enumerate((2048, 1024, 512)):
        layout |= conv(f"fpn.lat_layers.{i}", 256, channels, 1)
        layout |= conv(f"fpn.pred_layers.{i}", 256, 256, 3)
    for i in range(2):
        layout |= conv(f"fpn.downsample_layers.{i}", 256, 256, 3)
    for i in (0, 2, 4, 8):
        layout |= conv(f"proto_net.{i}", 256, 256, 3)
    layout |= conv("proto_net.10", 32, 256, 1)
    head = "prediction_layers.0"
    layout |= conv(f"{head}.upfeature.0", 256, 256, 3)
    for name, channels in (("bbox", 12), ("conf", 3 * (classes + 1)), ("mask", 96)):
        layout |= conv(f"{head}.{name}_layer", channels, 256, 3)
    return layout | conv("semantic_seg_conv", classes, 256, 1)


def hollow(layout: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors of these shapes that take no memory."""
    return {name: torch.zeros(()).expand(shape) for name, shape in layout.items()}


@pytest.mark.skipif("B2INST_REFERENCE" not in os.environ, reason="B2INST_REFERENCE is not set")
def test_the_layout_of_these_tests_is_the_published_one() -> None:
    spec = json.loads((Path(os.environ["B2INST_REFERENCE"]) / "yolact_r50_spec.json").read_text())
    assert published() == {name: tuple(entry["shape"]) for name, entry in spec.items()}


@pytest.mark.parametrize("depth", [50, 101])
def test_every_tensor_of_ours_is_reached_exactly_once(depth: int) -> None:
    layout = published(depth)
    with torch.device("meta"):
        model = create_model(f"yolact-r{depth}", num_classes=80)
    ours = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    names = YOLACT.own_names(layout)
    assert sorted(names.values()) == sorted(ours)
    assert {names[theirs]: shape for theirs, shape in layout.items()} == ours


def test_levels_are_counted_from_the_other_end() -> None:
    """yolact_facts.md §3: index 0 is C5 and P5."""
    names = YOLACT.own_names(published())
    assert names["fpn.lat_layers.0.weight"] == "backbone.lateral.2.weight"
    assert names["fpn.pred_layers.2.bias"] == "backbone.output.0.bias"


def test_there_and_back(tmp_path: Path) -> None:
    """Converted and loaded, the weights are bit for bit the published ones."""
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.rand(shape, generator=generator) / 50 for name, shape in published().items()
    }
    tensors |= {n: torch.tensor(7) for n in tensors if n.endswith("num_batches_tracked")}
    # Older files hold the backbone twice, and levels that are not used.
    old = {"backbone.layer1.0.conv1.weight": torch.ones(3)}
    old["fpn.downsample_layers.2.bias"] = torch.ones(256)
    source, out = tmp_path / "yolact_im700_54_800000.pth", tmp_path / "yolact.safetensors"
    torch.save(tensors | old, source)
    told = str(convert(source, out, publisher="yolact"))
    assert "not needed: 2 (backbone.layer1.0.conv1.weight, fpn.downsample_layers.2.bias)" in told
    assert "yolact-r50, classes: 80 (COCO's), num_bases 32, size 700" in told
    model = load_model(out)
    assert model.class_names == COCO_CLASS_NAMES
    own = model.state_dict()
    assert all(
        own[ours].equal(tensors[theirs]) for theirs, ours in YOLACT.own_names(tensors).items()
    )


@pytest.mark.parametrize(
    ("name", "size"), [("yolact_base_54_800000.pth", 550), ("my_im400_1_2.pth", 400)]
)
def test_the_size_is_in_the_files_name(name: str, size: int) -> None:
    model = YOLACT.load(hollow(published(101, classes=3)), source=f"some_im9_folder/{name}")
    assert model.preprocessor.fixed_size == (size, size)
    assert isinstance(model.instance_head, PriorBoxHead)
    assert model.instance_head.num_classes == 3
    assert model.class_names is None


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            {"backbone.layers.1.0.conv2.conv_offset_mask.bias": (27,)},
            r"unknown .*conv_offset_mask.bias",
        ),
        ({"maskiou_net.maskiou_net.0.weight": (8, 1, 3, 3)}, r"unknown maskiou_net"),
        ({"backbone.layers.4.0.conv1.weight": (3, 3, 1, 1)}, r"unknown backbone.layers.4.0.conv1"),
        (
            {"semantic_seg_conv.bias": (79,)},
            r"mismatch for .*project.bias: .*79",
        ),
    ],
)
def test_other_models_are_refused_in_one_line(
    extra: Mapping[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(WeightsError, match=message) as error:
        YOLACT.load(hollow(published() | extra), source="a.pth")
    assert str(error.value).startswith("a.pth: ")
    assert str(error.value).endswith("give an unchanged checkpoint of YOLACT on ResNet-50 or -101")
    assert "\n" not in str(error.value)


def test_a_darknet_and_missing_tensors_are_refused() -> None:
    layout = published()
    darknet = {n: s for n, s in layout.items() if ".bn3." not in n}
    with pytest.raises(WeightsError, match=r"Missing key.*bn3"):
        YOLACT.load(hollow(darknet), source="a.pth")
    cut = {name: s for name, s in layout.items() if not name.startswith("proto_net.10")}
    with pytest.raises(WeightsError, match=r"proto_net\.10\.weight is missing or empty"):
        YOLACT.load(hollow(cut), source="a.pth")
    less = {name: s for name, s in layout.items() if not name.startswith("proto_net.8")}
    with pytest.raises(WeightsError, match=r"Missing key.* .basis_head\.upsampled_conv"):
        YOLACT.load(hollow(less), source="a.pth")
