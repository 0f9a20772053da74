from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from b2inst.modules.basis_heads import MaskBranch
from b2inst.ops.frame_masks import aligned_bilinear
from b2inst.structures import Targets


def features(batch: int = 2) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {8: (8, 12), 16: (4, 6), 32: (2, 3)}
    return {s: torch.randn(batch, 6, *shape, generator=generator) for s, shape in shapes.items()}


def test_bases_lie_at_the_finest_stride() -> None:
    branch = MaskBranch(in_channels=6, num_bases=5, channels=8, num_convs=1)
    bases = branch(features())
    assert bases.maps.shape == (2, 5, 8, 12)
    assert bases.stride == 8
    assert bases.boundary_logits is None
    assert (bases.maps < 0).any()  # unbounded: no activation


def test_one_level_suffices() -> None:
    branch = MaskBranch(in_channels=6, num_bases=8, strides=(8,), channels=8, num_convs=0)
    assert branch(features()).maps.shape == (2, 8, 8, 12)


def test_levels_are_enlarged_and_summed() -> None:
    branch = MaskBranch(in_channels=6, num_bases=6, channels=6, num_convs=0)
    branch.refine = nn.ModuleList([nn.Identity()] * 3)
    branch.project = nn.Identity()  # type: ignore[assignment]
    levels = features()
    expected = levels[8] + aligned_bilinear(levels[16], 2) + aligned_bilinear(levels[32], 4)
    torch.testing.assert_close(branch(levels).maps, expected)


def test_plain_bases_have_no_loss_of_their_own(make_targets: Callable[..., Targets]) -> None:
    branch = MaskBranch(in_channels=6, channels=8)
    targets = [make_targets((64, 96), [])] * 2
    assert branch.loss(features(), branch(features()), targets) == {}
