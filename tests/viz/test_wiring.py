from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from b2inst.models import BasisSegmenter, create_model
from b2inst.modules.boundary_basis import BoundaryBasis, BoundaryLoss, BoundarySupervision
from b2inst.structures import Bases, Features
from b2inst.viz.wiring import Wiring, find_wiring

LEVELS = (4, 8, 16, 32)
BASELINE = Wiring(levels=LEVELS, num_bases=4, bases_read=(4,))


def model(boundary: dict[str, Any] | None) -> BasisSegmenter:
    return create_model("blendmask-tiny", num_classes=2, boundary=boundary)


def supervised(built: BasisSegmenter) -> BoundarySupervision:
    assert isinstance(built.basis_head, BoundarySupervision)
    return built.basis_head


#: The paper's Table 2, in its own words: Local/Global, Fusion/Single, Loss/Loss + Pred.
DESIGNS = {
    "baseline": (None, BASELINE),
    "(a)": (
        {"local": True, "as_basis": False},
        replace(BASELINE, boundary_read=(4,), loss="boxes"),
    ),
    "(b)": (
        {"fused": True, "as_basis": False},
        replace(BASELINE, boundary_read=LEVELS, loss="image"),
    ),
    "(c)": (
        {"fused": True},
        replace(BASELINE, boundary_read=LEVELS, loss="image", in_masks=True),
    ),
    "(d)": ({"as_basis": False}, replace(BASELINE, boundary_read=(4,), loss="image")),
    "(e)": ({}, replace(BASELINE, boundary_read=(4,), loss="image", in_masks=True)),
}


@pytest.mark.parametrize(("options", "expected"), DESIGNS.values(), ids=DESIGNS)
def test_each_design_is_found(options: dict[str, Any] | None, expected: Wiring) -> None:
    assert find_wiring(model(options)) == expected


def test_a_fifth_basis_and_a_shared_head_are_seen() -> None:
    assert find_wiring(create_model("blendmask-tiny", num_classes=2, num_bases=5)).num_bases == 5
    assert find_wiring(model({"branch_channels": 0})) == replace(
        BASELINE, boundary_read=(4,), loss="image", in_masks=True, shared=True
    )


def test_a_boundary_that_nothing_teaches_has_no_loss() -> None:
    found = find_wiring(model({"bce_weight": 0, "dice_weight": 0}))
    assert found.loss is None
    assert found.in_masks


@pytest.mark.parametrize("detach", [True, False])
def test_the_value_is_followed_where_the_gradient_is_cut(detach: bool) -> None:
    assert find_wiring(model({"detach": detach})).in_masks


def test_the_loss_that_is_there_is_found_whatever_was_asked_for() -> None:
    built = model({})
    supervised(built).criterion = BoundaryLoss(local=True)
    assert find_wiring(built).loss == "boxes"
    built = model({"local": True})
    supervised(built).criterion = BoundaryLoss()
    assert find_wiring(built).loss == "image"


def test_a_hook_that_takes_the_boundary_out_of_the_masks_is_seen() -> None:
    def silence(module: nn.Module, inputs: object, bases: Bases) -> Bases:
        return replace(bases, maps=bases.maps * torch.tensor([1, 1, 1, 1, 0]).view(1, 5, 1, 1))

    built = model({})
    assert isinstance(built.basis_head, BoundaryBasis)
    built.basis_head.register_forward_hook(silence)
    assert not find_wiring(built).in_masks


def test_a_branch_whose_level_is_cut_off_does_not_read_it() -> None:
    class Deaf(nn.Module):
        def forward(self, level: Tensor) -> Tensor:
            return level.new_zeros(len(level), 16, *level.shape[-2:])

    built = model({"fused": True})
    branch = supervised(built).branch
    assert branch is not None
    branch.refine[2] = Deaf()
    assert find_wiring(built).boundary_read == (4, 8, 32)


def test_a_head_that_reads_another_level_is_seen() -> None:
    class Swapped(nn.Module):
        def __init__(self, head: nn.Module) -> None:
            super().__init__()
            self.head = head

        def forward(self, features: Features) -> Bases:
            return self.head({4: features[8]})

    built = create_model("blendmask-tiny", num_classes=2)
    built.basis_head = Swapped(built.basis_head)  # type: ignore[assignment, arg-type]
    assert find_wiring(built).bases_read == (8,)


def test_looking_changes_neither_the_model_nor_the_random_numbers() -> None:
    built = model({}).train()
    before = {name: value.clone() for name, value in built.state_dict().items()}
    state = torch.get_rng_state()
    find_wiring(built)
    assert built.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in built.state_dict().items())
    assert all(parameter.grad is None for parameter in built.parameters())
