"""Activations that are computed again: the same numbers from fewer of them."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from b2inst.data import CocoDataset, CocoIndex, collate, train_transforms
from b2inst.models import BasisSegmenter
from b2inst.modules.fcos_head import FCOSHead
from b2inst.training.recompute import recompute_activations, recompute_normalised


def _kept_bytes(work: Callable[[], Any]) -> tuple[Any, int]:
    """What ``work`` gives, and the memory of the tensors that its backward pass will need."""
    storages: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = work()
    return result, sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("b2inst-blendmask-tiny", {}),
        ("b2inst-yolact-tiny", {"size": 64}),
        ("b2inst-condinst-tiny", {}),
        ("blendmask-mobilenetv2", {}),
    ],
)
def test_losses_gradients_and_statistics_are_the_same(
    name: str, options: dict[str, int], model: Callable[..., BasisSegmenter], index: CocoIndex
) -> None:
    dataset = CocoDataset(index, train_transforms(shorter=64, longer_max=64))
    images, targets = collate([dataset[i] for i in range(2)])

    def step(segmenter: BasisSegmenter) -> tuple[dict[str, Tensor], int]:
        torch.manual_seed(2)  # CondInst draws its samples
        losses, kept = _kept_bytes(lambda: segmenter.train()(images, targets))
        torch.stack(list(losses.values())).sum().backward()
        return losses, kept

    plain, lean = model(name, **options), model(name, **options)
    recompute_activations(lean)
    (expected, before), (losses, after) = step(plain), step(lean)
    assert losses == expected
    assert after < 0.6 * before
    assert lean.state_dict().keys() == plain.state_dict().keys()
    gradients = dict(plain.named_parameters())
    for key, parameter in lean.named_parameters():
        assert torch.equal(parameter.grad, gradients[key].grad), key  # type: ignore[arg-type]
    counted = dict(plain.named_buffers())
    assert any(key.endswith("num_batches_tracked") for key in counted)
    for key, buffer in lean.named_buffers():
        assert torch.equal(buffer, counted[key]), key


def test_it_predicts_as_before(model: Callable[..., BasisSegmenter]) -> None:
    image = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8).numpy()
    plain, lean = model().eval(), model().eval()
    recompute_activations(lean)
    (one,), (other,) = plain.predict([image]), lean.predict([image])
    assert torch.equal(one.scores, other.scores)
    assert torch.equal(one.masks, other.masks)
    (again,) = pickle.loads(pickle.dumps(lean)).predict([image])
    assert torch.equal(again.scores, one.scores)


def test_the_last_choice_counts(model: Callable[..., BasisSegmenter]) -> None:
    def calls(*choices: Callable[[Any], None]) -> list[Callable[..., Any]]:
        segmenter = model()
        for choose in choices:
            choose(segmenter)
        changed = (vars(module).get("forward") for module in segmenter.modules())
        return [forward.func for forward in changed if forward]

    expected = calls(recompute_normalised)
    assert calls(recompute_activations, recompute_normalised) == expected


def test_a_forward_of_the_callers_own_stays(model: Callable[..., BasisSegmenter]) -> None:
    segmenter, own = model(), lambda images, targets: {}
    segmenter.forward = own  # type: ignore[method-assign]
    recompute_normalised(segmenter)
    assert segmenter.forward is own


def test_pyramids_and_projections_are_not_computed_twice(
    model: Callable[..., BasisSegmenter],
) -> None:
    """One layer alone keeps only what enters it anyway."""
    full = model("b2inst-blendmask-r50")
    recompute_activations(full)
    changed = {name for name, module in full.named_modules() if "forward" in vars(module)}
    blocks = {n for n in changed if n.startswith("backbone.body.layer")}
    assert len(blocks) == 3 + 4 + 6 + 3
    assert changed - blocks == {
        "instance_head.class_tower",
        "instance_head.box_tower",
        *(f"basis_head.{part}.refine.0" for part in ("basis_head", "branch")),
        *(f"basis_head.basis_head.refine.{level}" for level in (1, 2)),
        *(f"basis_head.{part}.convs" for part in ("basis_head", "branch")),
        *(f"basis_head.{part}.upsampled_conv" for part in ("basis_head", "branch")),
        "basis_head.basis_head.auxiliary.convs",
        "scoring_head.convs",
    }


@pytest.mark.parametrize("large", [0, 2**40])
def test_normalised_maps_are_computed_again_where_they_are_large(
    large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("b2inst.training.recompute._LARGE", large)
    torch.manual_seed(0)
    plain = FCOSHead(in_channels=16, num_classes=2, num_coefficients=3, strides=(8,), num_convs=4)
    lean = copy.deepcopy(plain)
    recompute_normalised(lean)
    assert lean.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(2, 16, 12, 9)

    def step(head: FCOSHead) -> tuple[Tensor, int, dict[str, Tensor]]:
        outputs, kept = _kept_bytes(lambda: head({8: x}))
        outputs.class_logits.square().sum().backward()
        return outputs.class_logits, kept, {k: p.grad for k, p in head.named_parameters()}

    (expected, before, gradients), (got, after, others) = step(plain), step(lean)
    assert torch.equal(got, expected)
    for name, gradient in gradients.items():
        assert gradient is None if others[name] is None else torch.equal(gradient, others[name])
    assert after == before if large else after < 0.6 * before
