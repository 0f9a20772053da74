from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from b2inst.modules.basis_heads import BasisHead
from b2inst.modules.boundary_basis import (
    BoundaryBasis,
    BoundaryLoss,
    BoundarySupervision,
    OracleBoundary,
)
from b2inst.modules.semantic_heads import SemanticHead
from b2inst.structures import Bases, Targets

SIZE = (32, 48)


def basis_head(num_bases: int) -> BasisHead:
    return BasisHead(in_channels=6, num_bases=num_bases, strides=(8,), channels=8, num_convs=1)


def features(batch: int = 2) -> dict[int, torch.Tensor]:
    return {8: torch.randn(batch, 6, 4, 6, generator=torch.Generator().manual_seed(0))}


def shared(**weights: float) -> BoundaryBasis:
    criterion = BoundaryLoss(**weights)
    return BoundaryBasis(basis_head=basis_head(5), branch=None, criterion=criterion)


def branched(**options: Any) -> BoundaryBasis:
    criterion = BoundaryLoss()
    return BoundaryBasis(
        basis_head=basis_head(4), branch=basis_head(1), criterion=criterion, **options
    )


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


@pytest.mark.parametrize("branch", [None, 1])
def test_supervised_only_the_boundary_is_no_basis(
    branch: int | None, make_targets: Callable[..., Targets]
) -> None:
    head = BoundarySupervision(
        basis_head=basis_head(4 + (branch is None)),
        branch=None if branch is None else basis_head(branch),
        criterion=BoundaryLoss(),
    )
    bases = head(features(1))
    assert head.num_bases == bases.maps.shape[1] == 4
    assert bases.boundary_logits is not None
    with_basis = BoundaryBasis(
        basis_head=head.basis_head, branch=head.branch, criterion=head.criterion
    )(features(1))
    assert with_basis.maps[:, :4].equal(bases.maps)
    assert with_basis.maps[:, 4:].equal(bases.boundary_logits)
    losses = head.loss(features(1), bases, [make_targets(SIZE, [(4, 4, 20, 20)])])
    assert set(losses) == {"loss_boundary_bce", "loss_boundary_dice"}


def test_a_fused_branch_reads_every_level_it_names() -> None:
    levels = {8: torch.randn(1, 6, 4, 6), 16: torch.randn(1, 6, 2, 3).requires_grad_()}
    fused = BasisHead(in_channels=6, num_bases=1, strides=(8, 16), channels=8, num_convs=1)
    head = BoundaryBasis(
        basis_head=basis_head(4), branch=fused, criterion=BoundaryLoss(), detach=False
    )
    bases = head(levels)
    assert bases.boundary_logits is not None
    bases.boundary_logits.square().sum().backward(retain_graph=True)
    assert levels[16].grad is not None
    assert levels[16].grad.abs().sum() > 0
    levels[16].grad = None
    bases.maps[:, :4].sum().backward()
    assert levels[16].grad.abs().sum() == 0  # type: ignore[attr-defined]


def test_its_losses_stand_beside_those_of_the_basis_head(
    make_targets: Callable[..., Targets],
) -> None:
    semantic = SemanticHead(in_channels=6, num_classes=3, channels=4)
    head = branched()
    head.basis_head.auxiliary = semantic
    target = make_targets(SIZE, [(4, 4, 20, 20)])
    bases = head(features(1))
    losses = head.loss(features(1), bases, [target])
    assert bases.boundary_logits is not None
    own = head.criterion(bases.boundary_logits, 4, [target])
    assert set(losses) == {"loss_semantic", *own}
    assert all(losses[name] == own[name] for name in own)


def bases() -> Bases:
    return Bases(torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0)), stride=4)


def block(top: int, left: int, bottom: int, right: int) -> torch.Tensor:
    mask = torch.zeros(24, 32, dtype=torch.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def test_the_boundary_of_the_true_masks_becomes_the_logits() -> None:
    truths = [torch.stack([block(4, 8, 16, 28)]), torch.zeros(0, 24, 32, dtype=torch.uint8)]
    found = OracleBoundary()(bases(), truths)
    inside = np.zeros((6, 8), dtype=bool)
    inside[1:4, 2:7] = True  # the same block in cells of four pixels
    rim = inside & ~ndimage.binary_erosion(inside)
    assert found.boundary_logits is not None
    np.testing.assert_array_equal(found.boundary_logits[0, 0], np.where(rim, 4.0, -4.0))
    assert (found.boundary_logits[1] == -4).all()  # an image without objects
    torch.testing.assert_close(found.maps, bases().maps)


def test_it_may_mark_both_sides() -> None:
    found = OracleBoundary(two_sided=True)(bases(), [torch.stack([block(4, 8, 16, 28)])] * 2)
    inside = np.zeros((6, 8), dtype=bool)
    inside[1:4, 2:7] = True
    around = np.ones((3, 3))  # the Laplacian looks at eight neighbours
    both = ndimage.binary_dilation(inside, around) & ~ndimage.binary_erosion(inside, around)
    assert found.boundary_logits is not None
    np.testing.assert_array_equal(found.boundary_logits[0, 0] > 0, both)


def test_as_a_basis_it_is_the_last() -> None:
    found = OracleBoundary(as_basis=True)(bases(), [torch.stack([block(0, 0, 8, 8)])] * 2)
    assert found.maps.shape == (2, 4, 6, 8)
    assert found.boundary_logits is not None
    torch.testing.assert_close(found.maps[:, -1:], found.boundary_logits)
    torch.testing.assert_close(found.maps[:, :-1], bases().maps)
