from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from b2inst.models import BasisSegmenter
from b2inst.modules.blender import Blender
from b2inst.modules.dynamic_mask_head import DynamicMaskHead
from b2inst.modules.linear_assembler import LinearAssembler
from b2inst.modules.refinement import BoundaryDiffusion, ConvRefinement, InTurn
from b2inst.structures import Bases
from b2inst.viz.explore.composition import compose
from b2inst.viz.explore.forming import form, guided, steps_of
from b2inst.viz.explore.subjects import Subject
from b2inst.viz.explore.view import look

from .conftest import BOX, coefficients

Build = Callable[..., BasisSegmenter]
STEPS = 5


def diffusion() -> InTurn:
    return InTurn([BoundaryDiffusion(steps=STEPS)])


ASSEMBLERS = {
    "blend": Blender(num_bases=4, attention_size=3, roi_size=14, refinement=diffusion()),
    "sum": LinearAssembler(num_bases=4, refinement=diffusion()),
    "filter": DynamicMaskHead(num_bases=4, channels=4, refinement=diffusion()),
}


@pytest.fixture
def bases() -> Bases:
    lot = torch.Generator().manual_seed(0)
    maps = torch.randn((1, 4, 20, 16), generator=lot) * 3
    return Bases(maps, 2, torch.randn((1, 1, 20, 16), generator=lot) * 4)


@pytest.mark.parametrize("name", ASSEMBLERS)
@torch.no_grad()
def test_it_begins_with_what_is_composed_and_ends_with_the_mask(name: str, bases: Bases) -> None:
    assembler = ASSEMBLERS[name]
    own = coefficients(assembler)
    made = assembler.assemble(bases, [BOX[None]], own[None]).probabilities[0]
    found = form(assembler, bases, BOX, own)
    assert found.steps == STEPS
    torch.testing.assert_close(found.masks.probabilities[-1], made)
    assert found.guide is not None
    # Where the cells are: all of the RoI; the box and a cell around it; everywhere.
    left, right, top, bottom = found.extent
    if name == "blend":
        assert (left, top, right, bottom) == tuple(BOX.tolist())
    else:
        expected = (4, 2, 24, 30) if name == "sum" else (0, 0, 32, 40)
        assert (left, top, right, bottom) == expected
        window = (slice(int(top) // 2, int(bottom) // 2), slice(int(left) // 2, int(right) // 2))
        predicted = bases.boundary_logits[0, 0].sigmoid()  # type: ignore[index]
        torch.testing.assert_close(found.guide, predicted[window])
    last = found.logits[-1:]
    if name == "filter":
        last = assembler.enlarged(last)  # type: ignore[operator]
    elif name == "sum":
        made = made[window]
    torch.testing.assert_close(last[0].sigmoid(), made)
    first = found.logits[:1]
    first = assembler.enlarged(first) if name == "filter" else first  # type: ignore[operator]
    assembler.refinement, kept = None, assembler.refinement
    plain = compose(assembler, bases, BOX, own)
    unrefined = assembler.assemble(bases, [BOX[None]], own[None]).probabilities[0]
    assembler.refinement = kept
    torch.testing.assert_close(first[0], plain.logits)
    torch.testing.assert_close(found.masks.probabilities[0], unrefined)
    assert (found.logits[0] - found.logits[-1]).abs().max() > 0.1


@torch.no_grad()
def test_a_step_is_a_weighted_sum_of_neighbours(bases: Bases) -> None:
    """One step of equal conductance against a convolution, in the middle of the RoI."""
    plain = BoundaryDiffusion(steps=3, guided=False)
    assembler = Blender(num_bases=4, attention_size=3, roi_size=14, refinement=InTurn([plain]))
    found = form(assembler, bases, BOX, coefficients(assembler))
    assert found.guide is None  # there is a boundary, but nothing here heeds it
    before, after = found.logits[0].numpy(), found.logits[1].numpy()
    # Grewenig et al., the first of three steps, in units of the rate at 0.25 · sigmoid(0).
    size = 0.125 * 0.5 / np.cos(np.pi / 14) ** 2
    around = before[:-2, 1:-1] + before[2:, 1:-1] + before[1:-1, :-2] + before[1:-1, 2:]
    expected = before[1:-1, 1:-1] + size * (around - 4 * before[1:-1, 1:-1])
    np.testing.assert_allclose(after[1:-1, 1:-1], expected, atol=1e-4)


def test_refinements_in_turn_have_the_steps_of_both() -> None:
    both = InTurn([BoundaryDiffusion(steps=4), ConvRefinement()])
    assert steps_of(both) == 5
    assert guided(both)
    assert steps_of(InTurn([ConvRefinement()])) == 1
    assert not guided(InTurn([ConvRefinement(), BoundaryDiffusion(guided=False)]))
    assert steps_of(None) == 0
    assert not guided(None)


def test_masks_that_are_not_refined_have_no_steps(bases: Bases) -> None:
    assembler = LinearAssembler(num_bases=4)
    with pytest.raises(ValueError, match="no steps"):
        form(assembler, bases, BOX, coefficients(assembler))


@pytest.mark.parametrize("family", ["blendmask", "yolact", "condinst"])
def test_the_last_mask_is_the_prediction(family: str, build: Build, subject: Subject) -> None:
    model = build(f"gated-{family}-tiny")
    view = look(model, subject)
    assert view.gated
    assert view.boundary_basis is None
    factors = [1.0] * view.num_bases
    formed = [view.form(i, factors) for i in range(len(view.explanation.instances))]
    assert len(formed) > 0
    predicted, trained = view.explanation.instances.masks, view.trained
    assert torch.stack([f.masks[-1] for f in formed]).equal(predicted)
    last = torch.stack([f.iou[-1] for f in formed])
    torch.testing.assert_close(last, trained.iou, equal_nan=True)
    # The first is what the very same model would predict without its gate.
    model.assembler.refinement = None  # type: ignore[attr-defined]
    without = view.recompose(factors)
    assert torch.stack([f.masks[0] for f in formed]).equal(without.instances.masks)
    first = torch.stack([f.dice[0] for f in formed])
    torch.testing.assert_close(first, without.dice, equal_nan=True)
    assert all((f.forming.logits[0] != f.forming.logits[-1]).any() for f in formed)


def test_recomposed_masks_go_through_the_gate(build: Build, subject: Subject) -> None:
    view = look(build("gated-blendmask-tiny"), subject)
    factors = [1.0, 1.0, 1.0, 0.0]
    recomposed = view.recompose(factors).instances.masks
    for i, mask in enumerate(recomposed):
        formed = view.form(i, factors)
        assert formed.masks[-1].equal(mask)
        assert view.switch_off(i, 3).changed == (mask != view.explanation.instances.masks[i]).sum()


def test_an_effect_counts_the_pixels_between_two_steps(build: Build, subject: Subject) -> None:
    view = look(build("gated-blendmask-tiny"), subject)
    changes = []
    for i in range(len(view.explanation.instances)):
        formed = view.form(i, [1.0] * view.num_bases)
        effect = formed.effect(0, view.steps)
        a, b = formed.masks[0].numpy(), formed.masks[-1].numpy()
        assert (effect.pixels, effect.gained) == (a.sum(), (b & ~a).sum())
        assert effect.lost == (a & ~b).sum()
        assert effect.iou == pytest.approx(
            (float(formed.iou[0]), float(formed.iou[-1])), nan_ok=True
        )
        changes.append(effect.changed)
    assert max(changes) > 0
