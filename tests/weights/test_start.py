from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import b2inst.weights.start
from b2inst.models import BasisSegmenter, create_model
from b2inst.modules.basis_heads import BasisHead
from b2inst.modules.fcos_head import FCOSHead
from b2inst.structures import Bases
from b2inst.weights import WeightsError, save_model, start_from
from b2inst.weights.start import start_options

PICTURE = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8).repeat(8, 0).repeat(8, 1)


def build(name: str, *, seed: int = 0, classes: int = 3, **options: Any) -> BasisSegmenter:
    torch.manual_seed(seed)
    return create_model(name, num_classes=classes, **options).eval()


def save(model: BasisSegmenter, path: Path) -> Path:
    save_model(model, path)
    return path


@pytest.fixture(scope="module")
def baseline() -> BasisSegmenter:
    """A baseline that finds things, with masks that are clear, and attention that varies."""
    model = build("blendmask-tiny", attention_size=5)
    head, bases = model.instance_head, model.basis_head
    assert isinstance(head, FCOSHead)
    assert isinstance(bases, BasisHead)
    with torch.no_grad():
        head.class_logits.bias.zero_()  # type: ignore[union-attr]
        head.distances.bias.fill_(1.5)  # type: ignore[union-attr]
        head.coefficients.weight.normal_(std=0.05)
        bases.project.weight.mul_(20)
    head.max_detections = 15
    return model


@pytest.fixture(scope="module")
def baseline_file(baseline: BasisSegmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(baseline, tmp_path_factory.mktemp("start") / "blendmask.safetensors")


def difference(one: BasisSegmenter, other: BasisSegmenter) -> float:
    """Share of the masks' pixels that differ; what is found must be the same."""
    results = []
    for model in (one, other):
        model.eval()
        model.instance_head.max_detections = 15  # type: ignore[assignment]
        found = model.predict([PICTURE])[0]
        order = found.class_scores.argsort(descending=True, stable=True)
        results.append((found.boxes[order], found.masks[order]))
    (boxes, masks), (other_boxes, other_masks) = results
    assert len(boxes) >= 10
    assert boxes.equal(other_boxes)
    return float((masks ^ other_masks).sum() / (masks | other_masks).sum())


@pytest.mark.parametrize(
    "boundary", [{}, {"branch_channels": 0}, {"fused": True}], ids=["branch", "shared", "fused"]
)
def test_masks_hardly_differ_from_the_baseline_s(
    baseline: BasisSegmenter,
    baseline_file: Path,
    boundary: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def started() -> BasisSegmenter:
        options = start_options(baseline_file)
        model = build("b2inst-blendmask-tiny", seed=1, boundary=boundary, **options)
        start_from(model, baseline_file)
        return model

    assert difference(baseline, started()) < 0.01
    monkeypatch.setattr(b2inst.weights.start, "NEW_ATTENTION", 0.0)
    assert difference(baseline, started()) > 0.02


def test_every_weight_of_the_baseline_is_taken_over(
    baseline: BasisSegmenter, baseline_file: Path
) -> None:
    model = build("b2inst-blendmask-tiny", seed=1, attention_size=5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    start = start_from(model, baseline_file)
    own, theirs = model.state_dict(), baseline.state_dict()
    assert start.unused == ()
    assert start.widened == ("instance_head.coefficients.weight", "instance_head.coefficients.bias")
    for name in start.copied:
        assert own[name].equal(theirs[name.replace("basis_head.basis_head", "basis_head")])
    assert len(start.copied) + len(start.widened) == len(theirs)
    for name in start.widened:
        assert own[name][: 4 * 25].equal(theirs[name])
    weight, bias = (own[name][4 * 25 :] for name in start.widened)
    assert len(weight) == len(bias) == 25
    assert not weight.any()
    assert bias.unique().tolist() == [b2inst.weights.start.NEW_ATTENTION]
    assert all(own[name].equal(before[name]) for name in start.fresh)
    assert {name.rpartition(".")[0].split(".")[0] for name in start.fresh} == {
        "basis_head",
        "scoring_head",
    }
    text = str(start)
    assert "widened: instance_head.coefficients.{weight, bias}" in text
    assert "fresh: basis_head.branch (" in text
    assert "not used: none" in text


@pytest.mark.parametrize("family", ["yolact", "condinst"])
def test_a_new_basis_changes_no_mask_where_it_can_have_no_say(family: str, tmp_path: Path) -> None:
    baseline = build(f"{family}-tiny")
    head: Any = baseline.instance_head
    with torch.no_grad():
        head.class_logits.bias.zero_()
        head.coefficients.weight.normal_(std=0.05)
        if family == "condinst":
            head.distances.bias.fill_(1.5)
    head.max_detections = 15
    path = save(baseline, tmp_path / "baseline.safetensors")
    model = build(f"b2inst-{family}-tiny", seed=1)
    start = start_from(model, path)
    assert start.unused == ()
    assert start.widened == ("instance_head.coefficients.weight", "instance_head.coefficients.bias")
    own: Any = model.instance_head
    assert len(own.coefficients.weight) > len(head.coefficients.weight)
    assert difference(baseline, model) == 0


@pytest.mark.parametrize("family", ["blendmask", "yolact", "condinst"])
def test_the_coefficients_of_the_last_basis_are_those_that_matter_where_it_alone_is(
    family: str,
) -> None:
    assembler = build(f"b2inst-{family}-tiny").assembler
    generator = torch.Generator().manual_seed(0)
    maps = torch.zeros(1, getattr(assembler, "num_bases", 9), 24, 24)
    maps[:, -1] = torch.randn(24, 24, generator=generator)
    coefficients = torch.randn(1, assembler.num_coefficients, generator=generator)
    if family == "condinst":
        coefficients[:, -3:] = 40.0  # place and size
    box = [torch.tensor([[4.0, 4.0, 80.0, 80.0]])]

    def mask(bases: Tensor, numbers: Tensor) -> Tensor:
        return assembler.assemble(Bases(bases, stride=4), box, numbers).probabilities

    other = torch.where(assembler.of_last_basis, coefficients + 1, coefficients)
    assert not mask(maps, coefficients).equal(mask(maps, other))
    nothing = torch.zeros_like(maps)
    if family != "blendmask":  # whose softmax lets every basis take from the others
        assert mask(nothing, coefficients).equal(mask(nothing, other))


def test_the_new_basis_learns_from_the_masks(
    baseline_file: Path, make_targets: Callable[..., Any]
) -> None:
    model = build("b2inst-blendmask-tiny", attention_size=5).train()
    start_from(model, baseline_file)
    image = torch.from_numpy(PICTURE).permute(2, 0, 1).contiguous()
    model([image], [make_targets((96, 96), [(8, 8, 60, 50)])])["loss_mask"].backward()
    head = model.instance_head
    assert isinstance(head, FCOSHead)
    assert head.coefficients.weight.grad is not None
    assert head.coefficients.weight.grad[4 * 25 :].any()


def test_other_classes_and_another_attention_are_fresh(baseline_file: Path) -> None:
    model = build("blendmask-tiny", classes=5, attention_size=7)
    start = start_from(model, baseline_file)
    assert set(start.fresh) == set(start.unused)
    assert {name.rpartition(".")[0] for name in start.fresh} == {
        "instance_head.class_logits",
        "instance_head.coefficients",
    }


def test_the_same_model_is_the_same_again(tmp_path: Path) -> None:
    full = build("b2inst-blendmask-tiny")
    path = save(full, tmp_path / "full.safetensors")
    same = build("b2inst-blendmask-tiny", seed=1)
    start = start_from(same, path)
    assert (start.widened, start.fresh, start.unused) == ((), (), ())
    assert all(v.equal(full.state_dict()[k]) for k, v in same.state_dict().items())


def test_a_backbone_of_detectron2(
    backbone_layout: Callable[[int], dict[str, tuple[int, ...]]], tmp_path: Path
) -> None:
    layout = backbone_layout(50)
    tensors = {name: np.zeros(shape, np.float16) for name, shape in layout.items()}
    values = np.random.default_rng(0).standard_normal((256, 256, 3, 3))
    tensors["res4.5.conv2.weight"] = values.astype(np.float16)
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"model": tensors, "__author__": "MSRA"}))
    assert start_options(path) == {"msra": True, "frozen_norm": True}
    model = build("blendmask-r50", **start_options(path))
    start = start_from(model, path)
    assert {name.split(".")[1] for name in start.copied} == {"body"}
    assert not start.unused
    assert not any(name.startswith("backbone.body") for name in start.fresh)
    got: Tensor = model.state_dict()["backbone.body.layer3.5.conv2.weight"]
    assert np.array_equal(got.numpy(), tensors["res4.5.conv2.weight"])
    with torch.device("meta"):
        other, large = build("blendmask-r50"), build("blendmask-r101", msra=True, frozen_norm=True)
    with pytest.raises(WeightsError, match=r"R-50\.pkl: .* build the model with msra=true"):
        start_from(other, path)
    with pytest.raises(WeightsError, match=r"not that of blendmask-r101: nothing for .*layer3\.6"):
        start_from(large, path)


def test_files_that_cannot_be_the_start(baseline_file: Path, tmp_path: Path) -> None:
    with torch.device("meta"):
        other = build("blendmask-r18")
    with pytest.raises(WeightsError, match="backbone is not that of blendmask-r18: nothing for"):
        start_from(other, baseline_file)
    torch.save({"weight": torch.zeros(3), "bias": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"a\.pth: a checkpoint of 2 tensors; .*b2inst convert"):
        start_from(build("blendmask-tiny"), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="no such weights file"):
        start_from(build("blendmask-tiny"), tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"a\.onnx: an exported model cannot be trained"):
        start_from(build("blendmask-tiny"), tmp_path / "a.onnx")


def test_options_are_those_of_the_file(tmp_path: Path) -> None:
    model = build("blendmask-tiny", attention_size=9, num_bases=3, shorter=64, basis_channels=8)
    path = save(model, tmp_path / "a.safetensors")
    assert start_options(path) == {"attention_size": 9, "num_bases": 3}
