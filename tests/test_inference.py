"""Models predict through a fast network what they predict as they are defined."""

from __future__ import annotations

import copy
import gc
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from b2inst.inference import FastNetwork, chosen_precision, fast_network, winograd
from b2inst.models import CATALOG, BasisSegmenter, Segmenter, create_model
from b2inst.modules.backbones import FrozenNorm, MobileNetFPN, ResNetFPN
from b2inst.modules.center_mask import FCOSDetector
from b2inst.modules.masklab import MaskLabHead
from b2inst.modules.tensor_mask import TensorMaskHead
from b2inst.structures import Features
from b2inst.weights import load_model, save_model

NORMS = (nn.BatchNorm2d, FrozenNorm)
TINY = sorted(name for name in CATALOG if name.endswith("-tiny"))
IMAGE = np.random.default_rng(0).integers(0, 256, (15, 20, 3)).astype(np.uint8)
IMAGE = IMAGE.repeat(8, 0).repeat(8, 1)


def _drawn(module: nn.Module) -> nn.Module:
    """In evaluation mode, its batch norms as training might leave them."""
    generator = torch.Generator().manual_seed(1)
    for norm in module.modules():
        if isinstance(norm, NORMS):
            for name, low, high in (
                ("weight", 0.5, 1.5),
                ("bias", -0.5, 0.5),
                ("running_mean", -0.5, 0.5),
                ("running_var", 0.5, 2.0),
            ):
                getattr(norm, name).data.uniform_(low, high, generator=generator)
    return module.eval()


def _close(one: Tensor, other: Tensor, share: float = 1e-4) -> bool:
    """Within a share of the largest value: Winograd's transforms, over a network's layers."""
    return bool((one - other).abs().max() <= share * other.abs().max())


def _skipped_norms(module: nn.Module) -> list[bool]:
    """Of each norm, when it is called, whether it hands on what it gets."""
    skipped: list[bool] = []
    for norm in module.modules():
        if isinstance(norm, NORMS):
            norm.register_forward_hook(lambda _, given, got: skipped.append(got is given[0]))
    return skipped


def _mask_logits(model: Any, features: Features) -> Tensor:
    """What the mask of one box, or window, is made from."""
    boxes = [torch.tensor([[9.0, 5, 110, 120]])]
    if model.mask_head is None:
        return cast(Tensor, model.detector.regions(model.detector.maps(features), boxes)[-1])
    if isinstance(model.mask_head, TensorMaskHead):
        groups = model.mask_head(features, [torch.tensor([[10.0, 10, 54, 54]])])
        return cast(Tensor, groups[0][1])  # of windows of 11 cells
    sizes = [[(128, 128)]] if isinstance(model.detector, FCOSDetector) else []
    outputs = model.mask_head(features, boxes, *sizes)
    if isinstance(model.mask_head, MaskLabHead):
        return model.mask_head.masks(outputs, torch.tensor([1]))[1]
    return cast(Tensor, getattr(outputs, "coarse", outputs).logits)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", TINY)
def test_every_family_keeps_its_maps(name: str, precision: Any) -> None:
    torch.manual_seed(0)
    model = create_model(name, num_classes=3)
    _drawn(model)
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    skipped = _skipped_norms(model.backbone)

    def maps() -> list[Tensor]:
        features = model.backbone(image)
        if isinstance(model, BasisSegmenter):
            return [*features.values(), model.basis_head(features).maps]
        return [*features.values(), _mask_logits(model, features)]

    with torch.inference_mode():
        expected = maps()
        assert not any(skipped)
        skipped.clear()
        with fast_network(model, precision):
            found = maps()
    assert skipped
    assert all(skipped)
    assert found[0].dtype == getattr(torch, precision)
    share = 1e-4 if precision == "float32" else 0.05  # eight bits, over a dozen layers
    assert all(_close(f.float(), e, share) for f, e in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", TINY)
def test_predictions_do_not_depend_on_the_callers_types(name: str) -> None:
    torch.manual_seed(0)
    model = _drawn(create_model(name, num_classes=8))
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    (expected,) = model.predict(IMAGE)  # type: ignore[operator]
    assert len(expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        (mixed,) = model.predict(IMAGE)  # type: ignore[operator]
    torch.set_default_dtype(torch.float64)
    try:
        (double,) = model.predict(IMAGE)  # type: ignore[operator]
    finally:
        torch.set_default_dtype(torch.float32)
    for found in (mixed, double):
        for field, value in vars(expected).items():
            if isinstance(value, Tensor):
                assert getattr(found, field).dtype == value.dtype
                assert getattr(found, field).equal(value)


@pytest.mark.parametrize(
    "backbone",
    [
        partial(ResNetFPN, resnet="resnet18", frozen_norm=False),
        partial(ResNetFPN, resnet="resnet50", frozen_norm=True),
        partial(MobileNetFPN, frozen_norm=False),
        partial(MobileNetFPN, frozen_norm=True),
    ],
)
def test_backbones_keep_their_maps(backbone: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = _drawn(backbone())
    skipped = _skipped_norms(model)
    image = torch.rand(1, 3, 128, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(image)
        skipped.clear()
        with fast_network(model, "float32"):
            found = model(image)
    assert skipped
    assert all(skipped)
    assert all(_close(found[stride], expected[stride]) for stride in expected)


def _finding(name: str) -> BasisSegmenter:
    """A small model with a dozen detections in any image, far from its threshold."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=3)
    _drawn(model)
    head = model.instance_head
    nn.init.zeros_(head.class_logits.bias)  # type: ignore[attr-defined]
    nn.init.constant_(head.distances.bias, 1.5)  # type: ignore[attr-defined]
    nn.init.normal_(head.distances.weight, std=0.1)  # type: ignore[attr-defined]
    nn.init.normal_(head.class_logits.weight, std=0.1)  # type: ignore[attr-defined]
    head.max_detections = 12
    return cast(BasisSegmenter, model)


@pytest.mark.parametrize(
    ("precision", "pixels", "score", "mask"),
    [("float32", 1e-2, 1e-4, 1e-3), ("bfloat16", 1.0, 0.02, 0.05)],
)
def test_predictions_are_the_same(precision: str, pixels: float, score: float, mask: float) -> None:
    model = _finding("b2inst-blendmask-tiny")
    model.optimised = False
    (expected,) = model.predict([IMAGE])
    model.optimised, model.precision = True, precision  # type: ignore[assignment]
    model.max_detections = 24  # rounding may let others in; a change of the model that is seen
    (found,) = model.predict([IMAGE])
    assert len(found) > len(expected) >= 10
    assert found.boxes.dtype == found.scores.dtype == torch.float32
    distance = torch.cdist(expected.boxes, found.boxes)
    distance[expected.labels[:, None] != found.labels] = torch.inf
    found = found[distance.argmin(1)]  # the order may differ by rounding
    assert (found.boxes - expected.boxes).abs().max() <= pixels
    assert (found.scores - expected.scores).abs().max() <= score
    assert (found.masks != expected.masks).float().mean() <= mask


def _maps(model: Segmenter, *, optimised: bool = True) -> Tensor:
    model.optimised = optimised
    return cast(BasisSegmenter, model).explain(IMAGE).bases.maps


def test_precision_counts_without_the_fast_network() -> None:
    model = _finding("b2inst-blendmask-tiny")
    exact = _maps(model, optimised=False)
    model.precision = "bfloat16"
    rounded = _maps(model, optimised=False)
    assert 0 < (rounded - exact).abs().max() < 0.1 * exact.abs().max()


def _trained(model: Segmenter, *, fused: bool = False) -> None:
    model.train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    model.eval()


def _trained_by_a_fused_optimiser(model: Segmenter) -> None:
    _trained(model, fused=True)  # which PyTorch does not count as a change


def _seen(model: Segmenter) -> None:
    """Its batch norms have seen images, nothing else has changed."""
    model.train()
    with torch.no_grad():
        model.backbone(torch.rand(2, 3, 64, 64))
    model.eval()


def _loaded(model: Segmenter) -> None:
    model.load_state_dict({k: v * 1.1 for k, v in model.state_dict().items()})


def _assigned(model: Segmenter) -> None:
    state = {k: v * 1.1 for k, v in model.state_dict().items()}
    model.load_state_dict(state, assign=True)


def _changed(model: Segmenter) -> None:
    with torch.no_grad():
        model.get_parameter("backbone.stem.0.weight").mul_(1.1)


def _replaced(model: Segmenter) -> None:
    model.backbone = cast(Any, _drawn(create_model("blendmask-tiny", num_classes=3))).backbone


def _moved(model: Segmenter) -> None:
    model.to(torch.bfloat16).to(torch.float32)  # parameters stay the same objects, rounded


@pytest.mark.parametrize(
    "change",
    [
        *(_trained, _trained_by_a_fused_optimiser, _seen, _loaded, _assigned, _changed),
        *(_replaced, _moved),
    ],
)
def test_changes_of_the_model_are_seen(change: Callable[[Segmenter], None]) -> None:
    torch.manual_seed(0)
    model = create_model("blendmask-tiny", num_classes=3)
    _drawn(model)
    before = _maps(model)
    change(model)
    expected = _maps(model, optimised=False)
    assert not _close(expected, before)
    assert _close(_maps(model), expected)


def test_changes_are_seen_of_models_made_in_inference_mode() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with torch.inference_mode():
        one, other = (create_model("b2inst-yolact-tiny", num_classes=2) for _ in range(2))
        one.predict(image)
        one.load_state_dict(other.state_dict())
        torch.testing.assert_close(one.predict(image)[0].scores, other.predict(image)[0].scores)


def test_what_is_folded_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model = create_model("blendmask-tiny", num_classes=3).eval()
    model.predict([IMAGE])
    monkeypatch.setattr("b2inst.inference.FastNetwork", None)
    model.predict([IMAGE])
    model.precision = "bfloat16"  # for which it is made anew
    with pytest.raises(TypeError):
        model.predict([IMAGE])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_models_of_their_own(copied: Callable[[nn.Module], BasisSegmenter]) -> None:
    model = create_model("blendmask-tiny", num_classes=3).eval()
    size = len(pickle.dumps(model))
    before = _maps(model)
    assert len(pickle.dumps(model)) == size
    other = copied(model)
    assert torch.equal(_maps(other), before)
    _changed(other)
    assert _close(_maps(other), _maps(other, optimised=False))
    assert not _close(_maps(other), before)
    assert torch.equal(_maps(model), before)


def test_the_model_itself_stays_as_it_was(tmp_path: Any) -> None:
    model = create_model("blendmask-tiny", num_classes=3).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = list(model.parameters())
    model.predict([IMAGE])
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    save_model(model, tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").state_dict().keys() == before.keys()
    loss = model.train().backbone(torch.rand(2, 3, 64, 64))[8].sum()  # and can be trained
    assert all(g is not None for g in torch.autograd.grad(loss, model.backbone.stem.parameters()))  # type: ignore[union-attr]


def test_nothing_is_kept_of_a_model_that_is_gone() -> None:
    model = create_model("blendmask-tiny", num_classes=3).eval()
    model.predict([IMAGE])
    del model
    gc.collect()
    alive = [o for o in gc.get_objects() if isinstance(o, FastNetwork)]
    assert not alive


@pytest.mark.parametrize("name", ["blendmask-tiny", "maskrcnn-tiny"])
def test_outside_of_predictions_modules_are_what_they_are(name: str) -> None:
    model = create_model(name, num_classes=3)
    skipped = _skipped_norms(_drawn(model))
    assert model.predict([]) == []
    model.predict([IMAGE])
    skipped.clear()
    model.backbone(torch.rand(1, 3, 64, 64))
    assert skipped
    assert not any(skipped)


def test_a_model_in_training_is_refused() -> None:
    with pytest.raises(RuntimeError, match="eval"):
        create_model("blendmask-tiny", num_classes=3).train().predict([IMAGE])


def _wide(channels: int, bias: bool, count: int) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(channels, count, 3, padding=1, bias=bias)


@given(st.integers(1, 2), st.integers(1, 40), st.integers(1, 40), st.integers(1, 9), st.booleans())
def test_winograd_is_the_convolution(b: int, h: int, w: int, channels: int, bias: bool) -> None:
    conv = _wide(channels, bias, 5)
    x = torch.randn(b, channels, w, h).transpose(2, 3)  # whatever the layout
    exact = copy.deepcopy(conv).double()(x.double()).detach()
    with torch.inference_mode():
        found = winograd(x, conv.weight, conv.bias)
    assert found.shape == exact.shape
    assert (found - exact).abs().max() <= 1e-5 * (1 + exact.abs().max())


@pytest.mark.parametrize(("width", "wide"), [(64, False), (256, True)])
def test_only_wide_convolutions_are_transformed(
    width: int, wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def marked(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.full((1,), torch.nan)

    monkeypatch.setattr("b2inst.inference.winograd", marked)
    model = nn.Sequential(_wide(width, True, width)).eval()
    x = torch.randn(1, width, 8, 8)
    with torch.inference_mode():
        with fast_network(model, "float32"):
            assert model(x).isnan().all() == wide
        with fast_network(model, "bfloat16"):
            assert model(x).shape == x.shape  # whose instructions need no help
        assert model(x).shape == x.shape


@pytest.mark.parametrize(
    ("capabilities", "best"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, "bfloat16"),
        ({"amx_bf16": True}, "bfloat16"),
        ({"avx2": True, "avx512_bf16": False}, "float32"),
    ],
)
def test_the_best_precision_is_the_processors(
    capabilities: dict[str, bool], best: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    model = create_model("blendmask-tiny", num_classes=3)
    assert model.precision == "float32"
    model.precision = "auto"  # type: ignore[assignment]
    assert model.precision == best
    for name in ("float32", "bfloat16"):
        assert chosen_precision(name, torch.device("cpu")) == name


def test_a_processor_that_does_not_say_gets_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert chosen_precision("auto", torch.device("cpu")) == "float32"


def test_a_wrong_precision_is_named() -> None:
    with pytest.raises(ValueError, match="precision 'half': choose auto, float32 or bfloat16"):
        chosen_precision("half", torch.device("cpu"))


def test_without_images_nothing_stays_changed() -> None:
    model = create_model("blendmask-tiny", num_classes=2).eval()
    assert model.predict([]) == []
    conv = torch.nn.Conv2d(3, 4, 3)
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        assert conv(x).equal(torch.nn.functional.conv2d(x, conv.weight, conv.bias))
    assert torch.overrides.has_torch_function(()) is False
    assert not torch.overrides.is_tensor_method_or_property(conv.forward)
