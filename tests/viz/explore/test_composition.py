from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import roi_align

from b2inst.modules.blender import Blender
from b2inst.modules.dynamic_mask_head import DynamicMaskHead
from b2inst.modules.linear_assembler import LinearAssembler
from b2inst.structures import Bases
from b2inst.viz.explore.composition import basis_weights, contributions

from .conftest import BOX, coefficients

CELLS = (slice(2, 14), slice(3, 11))  # rows and columns of the box on the grid


@pytest.fixture
def bases() -> Bases:
    return Bases(torch.randn((1, 4, 20, 16), generator=torch.Generator().manual_seed(0)) * 3, 2)


ASSEMBLERS = {
    "blend": Blender(num_bases=4, attention_size=3, roi_size=14),
    "sum": LinearAssembler(num_bases=4),
    "filter": DynamicMaskHead(num_bases=4, channels=4),
}


@pytest.mark.parametrize("name", ASSEMBLERS)
@torch.no_grad()
def test_the_logits_are_those_of_the_assembler(name: str, bases: Bases) -> None:
    assembler = ASSEMBLERS[name]
    own = coefficients(assembler)
    made = assembler.assemble(bases, [BOX[None]], own[None]).probabilities[0]
    whole, _ = contributions(assembler, bases, BOX, own, [1.0] * 4)
    left, right, top, bottom = whole.extent
    assert (left, top, right, bottom) == tuple(BOX.tolist())
    expected = made
    if name == "sum":
        expected = made[CELLS]
    elif name == "filter":  # before they are enlarged to pixels
        image = torch.zeros(1, dtype=torch.int64)
        expected = assembler.filtered(bases, image, own[None])[0][CELLS].sigmoid()  # type: ignore[operator]
    torch.testing.assert_close(whole.values[0].sigmoid(), expected)
    assert getattr(assembler, "refinement", None) is None, "the given assembler is left alone"


def test_blended_contributions_are_attention_times_pooled_basis(bases: Bases) -> None:
    assembler = ASSEMBLERS["blend"]
    own = coefficients(assembler)
    attention = F.interpolate(own.view(1, 4, 3, 3), 14, mode="bilinear", align_corners=False)
    pooled = roi_align(bases.maps, [BOX[None]], 14, 0.5, sampling_ratio=1, aligned=True)
    expected = (attention.softmax(1) * pooled)[0]
    whole, parts = contributions(assembler, bases, BOX, own, [1.0] * 4)
    torch.testing.assert_close(parts, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(whole.values[0], expected.sum(0), atol=1e-5, rtol=1e-4)


def test_summed_contributions_are_coefficient_times_basis(bases: Bases) -> None:
    assembler = ASSEMBLERS["sum"]
    own = coefficients(assembler)
    whole, parts = contributions(assembler, bases, BOX, own, [1.0, 1.0, 0.5, 1.0])
    maps = bases.maps[0][:, *CELLS] * torch.tensor([1.0, 1.0, 0.5, 1.0])[:, None, None]
    expected = maps * own.tanh()[:, None, None]
    torch.testing.assert_close(parts, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(whole.values[0], expected.sum(0), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_filtered_masks_are_no_sum(bases: Bases) -> None:
    assembler = ASSEMBLERS["filter"]
    own = coefficients(assembler)
    whole, parts = contributions(assembler, bases, BOX, own, [1.0] * 4)
    assert basis_weights(assembler, own) is None
    assert (whole.values[0] - parts.sum(0)).abs().max() > 0.1
    edited = bases.maps.clone()
    edited[:, 2] = 0
    image = torch.zeros(1, dtype=torch.int64)
    full, without = (
        assembler.filtered(Bases(maps, 2), image, own[None])[0][CELLS]  # type: ignore[operator]
        for maps in (bases.maps, edited)
    )
    torch.testing.assert_close(parts[2], full - without, atol=1e-4, rtol=1e-4)


def test_weights_are_attention_or_coefficients(bases: Bases) -> None:
    own = coefficients(ASSEMBLERS["blend"])
    attention = basis_weights(ASSEMBLERS["blend"], own)
    assert attention is not None
    torch.testing.assert_close(attention.sum(0), torch.ones(14, 14))
    weights = basis_weights(ASSEMBLERS["sum"], torch.tensor([0.5, -2.0, 0.0, 9.0]))
    assert weights is not None
    expected = torch.tensor([0.5, -2.0, 0.0, 9.0]).tanh()
    torch.testing.assert_close(weights[:, 0, 0], expected)
