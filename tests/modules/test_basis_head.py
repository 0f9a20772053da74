from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from b2inst.modules.basis_heads import BasisHead
from b2inst.structures import Targets


def features(batch: int = 2) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {8: (9, 14), 16: (5, 7), 32: (3, 4)}  # rounded up, as strided convolutions do
    return {s: torch.randn(batch, 6, *shape, generator=generator) for s, shape in shapes.items()}


@pytest.mark.parametrize(
    ("options", "size", "stride"),
    [({}, (18, 28), 4), ({"upsampling": 1}, (9, 14), 8), ({"upsampling": 4}, (36, 56), 2)],
)
def test_bases_lie_at_a_part_of_the_finest_stride(
    options: dict[str, int], size: tuple[int, int], stride: int
) -> None:
    head = BasisHead(in_channels=6, num_bases=5, channels=8, num_convs=1, **options)
    bases = head(features())
    assert bases.maps.shape == (2, 5, *size)
    assert bases.stride == stride
    assert bases.boundary_logits is None
    assert (bases.maps < 0).any()  # unbounded: no activation


def test_one_level_suffices() -> None:
    bases = BasisHead(in_channels=6, strides=(8,), channels=8, num_convs=0)(features())
    assert bases.maps.shape == (2, 4, 18, 28)


def test_levels_are_summed() -> None:
    """With branches that pass on what they get, constant levels add up."""
    head = BasisHead(in_channels=6, num_bases=6, channels=6, num_convs=0)
    head.refine = nn.ModuleList([nn.Identity()] * 3)
    head.upsampled_conv = nn.Identity()
    head.project = nn.Identity()
    levels = {s: torch.full_like(f, float(s)) for s, f in features().items()}
    torch.testing.assert_close(head(levels).maps, torch.full((2, 6, 18, 28), 8.0 + 16 + 32))


def test_plain_bases_have_no_loss_of_their_own(make_targets: Callable[..., Targets]) -> None:
    head = BasisHead(in_channels=6, channels=8)
    targets = [make_targets((72, 112), [])] * 2
    assert head.loss(features(), head(features()), targets) == {}
