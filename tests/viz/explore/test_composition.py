from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import roi_align

from b2inst.models import BasisSegmenter
from b2inst.modules.blender import Blender
from b2inst.modules.dynamic_mask_head import DynamicMaskHead
from b2inst.modules.linear_assembler import LinearAssembler
from b2inst.structures import Bases
from b2inst.viz.explore.composition import compose, contributions, scaled

from .conftest import BOX, coefficients


@pytest.fixture
def bases() -> Bases:
    return Bases(torch.randn((1, 4, 20, 16), generator=torch.Generator().manual_seed(0)) * 3, 2)


ASSEMBLERS = {
    "blend": Blender(num_bases=4, attention_size=3, roi_size=14),
    "sum": LinearAssembler(num_bases=4),
    "filter": DynamicMaskHead(num_bases=4, channels=4),
}


@pytest.mark.parametrize("name", ASSEMBLERS)
def test_the_logits_are_those_of_the_assembler(name: str, bases: Bases) -> None:
    assembler = ASSEMBLERS[name]
    own = coefficients(assembler)
    made = assembler.assemble(bases, [BOX[None]], own[None]).probabilities[0]
    found = compose(assembler, bases, BOX, own)
    left, right, top, bottom = found.extent
    if name == "blend":
        assert (left, top, right, bottom) == tuple(BOX.tolist())
    elif name == "sum":  # the box, and up to a cell around it, is all that a mask may cover
        assert made.count_nonzero() == found.logits.numel()
        made = made[int(top) // 2 : int(bottom) // 2, int(left) // 2 : int(right) // 2]
        assert (left, top, right, bottom) == (4, 2, 24, 30)
    else:  # cells of one pixel, the first of which is at the pixel's own centre
        assert (left, top, right, bottom) == (0, 0, 32, 40)
    torch.testing.assert_close(found.logits.sigmoid(), made)


def test_blended_contributions_are_attention_times_pooled_basis(bases: Bases) -> None:
    assembler = ASSEMBLERS["blend"]
    own = coefficients(assembler)
    attention = F.interpolate(own.view(1, 4, 3, 3), 14, mode="bilinear", align_corners=False)
    pooled = roi_align(bases.maps, [BOX[None]], 14, 0.5, sampling_ratio=1, aligned=True)
    expected = (attention.softmax(1) * pooled)[0]
    found = contributions(assembler, bases, BOX, own, [1.0] * 4)
    torch.testing.assert_close(found.parts, expected, atol=1e-5, rtol=1e-4)
    assert found.additive
    sizes = expected.abs().mean((1, 2))
    torch.testing.assert_close(found.shares, sizes / sizes.sum(), atol=1e-5, rtol=1e-4)


def test_summed_contributions_are_coefficient_times_basis(bases: Bases) -> None:
    assembler = ASSEMBLERS["sum"]
    own = coefficients(assembler)
    found = contributions(assembler, bases, BOX, own, [1.0, 1.0, 0.5, 1.0])
    maps = bases.maps[0, :, 1:15, 2:12] * torch.tensor([1.0, 1.0, 0.5, 1.0])[:, None, None]
    expected = maps * own.tanh()[:, None, None]
    torch.testing.assert_close(found.parts, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.whole.logits, expected.sum(0), atol=1e-5, rtol=1e-4)
    assert found.additive


def test_filtered_masks_are_no_sum(bases: Bases) -> None:
    assembler = ASSEMBLERS["filter"]
    own = coefficients(assembler)
    found = contributions(assembler, bases, BOX, own, [1.0] * 4)
    assert found.whole.weights is None
    assert not found.additive
    edited = bases.maps.clone()
    edited[:, 2] = 0
    without = assembler.assemble(Bases(edited, 2), [BOX[None]], own[None]).probabilities[0]
    full = assembler.assemble(bases, [BOX[None]], own[None]).probabilities[0]
    torch.testing.assert_close(found.parts[2], full.logit() - without.logit(), atol=1e-3, rtol=1e-3)


def test_scaling_leaves_the_given_bases_alone(bases: Bases) -> None:
    before = bases.maps.clone()
    changed = scaled(bases, [1.0, 0.0, -2.0, 0.5])
    assert bases.maps.equal(before)
    assert changed.maps[0, 1].count_nonzero() == 0
    assert changed.maps[0, 2].equal(-2 * before[0, 2])
    assert changed.stride == bases.stride


def test_an_unknown_assembler_is_refused(bases: Bases) -> None:
    with pytest.raises(TypeError, match="Identity"):
        compose(nn.Identity(), bases, BOX, torch.zeros(4))  # type: ignore[arg-type]


def test_every_family_of_the_catalog_can_be_taken_apart(
    build: Callable[..., BasisSegmenter],
) -> None:
    for family in ("blendmask", "yolact", "condinst"):
        assembler = build(f"b2inst-{family}-tiny").assembler
        assert compose.dispatch(type(assembler)) is not compose.dispatch(object)
