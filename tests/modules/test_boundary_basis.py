from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from b2inst.modules.basis_head import BasisHead
from b2inst.modules.boundary_basis import BoundaryBasis
from b2inst.structures import Bases, Targets

SIZE = (32, 48)


def basis_head(num_bases: int) -> BasisHead:
    return BasisHead(in_channels=6, num_bases=num_bases, strides=(8,), channels=8, num_convs=1)


def features(batch: int = 2) -> dict[int, torch.Tensor]:
    return {8: torch.randn(batch, 6, 4, 6, generator=torch.Generator().manual_seed(0))}


def shared(**options: Any) -> BoundaryBasis:
    return BoundaryBasis(basis_head=basis_head(5), **options)


def branched(**options: Any) -> BoundaryBasis:
    return BoundaryBasis(basis_head=basis_head(4), branch=basis_head(1), **options)


@pytest.mark.parametrize("build", [shared, branched])
def test_the_boundary_is_the_last_of_the_bases(build: Callable[..., BoundaryBasis]) -> None:
    head = build()
    bases = head(features())
    assert head.num_bases == 5
    assert bases.maps.shape == (2, 5, 8, 12)
    assert bases.boundary_logits is not None
    assert bases.boundary_logits.equal(bases.maps[:, -1:])
    assert bases.stride == 4


@pytest.mark.parametrize("detach", [True, False])
def test_detached_only_its_own_loss_trains_the_branch(
    detach: bool, make_targets: Callable[..., Targets]
) -> None:
    head = branched(detach=detach)
    assert head.branch is not None
    bases = head(features())
    bases.maps.sum().backward(retain_graph=True)
    weight = head.branch.project.weight
    assert (weight.grad is None) == detach
    assert head.basis_head.project.weight.grad is not None
    weight.grad = None
    target = make_targets(SIZE, [(4, 4, 20, 20)])
    torch.stack(list(head.loss(features(), bases, [target, target]).values())).sum().backward()
    assert weight.grad is not None


def test_losses_are_those_of_the_boundaries_union(make_targets: Callable[..., Targets]) -> None:
    head = shared(bce_weight=2.0, dice_weight=0.5, crisp_weight=0.25)
    bases = head(features(1))
    target = make_targets(SIZE, [(0, 0, 22, 22), (22, 4, 40, 30)])
    truth = np.zeros((8, 12), bool)
    for mask in target.masks.numpy():
        small = mask[2::4, 2::4].astype(bool)  # cell centres
        truth |= small & ~ndimage.binary_erosion(small, np.ones((3, 3)), border_value=1)
    p = 1 / (1 + np.exp(-bases.maps[0, -1].detach().double().numpy()))
    dice = (2 * (p * truth).sum() + 1) / ((p**2).sum() + truth.sum() + 1)
    expected = {
        "loss_boundary_bce": 2 * -np.where(truth, np.log(p), np.log(1 - p)).mean(),
        "loss_boundary_dice": 0.5 * (1 - dice),
        "loss_boundary_crisp": 0.25 * (1 / dice - 1),
    }
    losses = head.loss(features(1), bases, [target])
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(expected)


def test_a_loss_of_weight_zero_is_left_out(make_targets: Callable[..., Targets]) -> None:
    head = branched(bce_weight=1.0, dice_weight=0.0, crisp_weight=0.0)
    targets = [make_targets(SIZE, [(4, 4, 20, 20)])] * 2
    assert set(head.loss(features(), head(features()), targets)) == {"loss_boundary_bce"}


def test_right_predictions_cost_nothing(make_targets: Callable[..., Targets]) -> None:
    target = make_targets(SIZE, [(4, 4, 28, 28)])
    small = target.masks[0, 2::4, 2::4].bool().numpy()
    truth = torch.from_numpy(small & ~ndimage.binary_erosion(small, np.ones((3, 3))))
    logits = torch.where(truth, 40.0, -40.0)[None, None]
    head = shared(crisp_weight=1.0)
    losses = head.loss(features(1), Bases(logits, 4, logits), [target])
    assert max(value.item() for value in losses.values()) == pytest.approx(0, abs=1e-6)


def test_an_image_without_objects_has_no_boundary(make_targets: Callable[..., Targets]) -> None:
    head = branched()
    losses = head.loss(features(1), head(features(1)), [make_targets(SIZE, [])])
    assert all(value.isfinite() for value in losses.values())
