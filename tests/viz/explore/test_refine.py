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
from b2inst.viz.explore.composition import contributions, refine, refinement_steps
from b2inst.viz.explore.inspection import inspect_image
from b2inst.viz.explore.sources import Sample
from b2inst.viz.qualitative import gated

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
    masks, states = refine(assembler, bases, BOX, own, [1.0] * 4)
    assert len(states.values) == len(masks) == STEPS + 1
    torch.testing.assert_close(masks.probabilities[-1], made)
    left, right, top, bottom = states.extent
    assert (left, top, right, bottom) == tuple(BOX.tolist())
    cells = (slice(2, 14), slice(3, 11))  # of the box, on a grid of stride 2
    if name == "blend":
        torch.testing.assert_close(states.values[-1].sigmoid(), made)
    else:
        assert states.boundary is not None
        predicted = bases.boundary_logits[0, 0].sigmoid()  # type: ignore[index]
        torch.testing.assert_close(states.boundary, predicted[cells])
    if name == "sum":
        torch.testing.assert_close(states.values[-1].sigmoid(), made[cells])
    whole, _ = contributions(assembler, bases, BOX, own, [1.0] * 4)
    torch.testing.assert_close(states.values, whole.values)
    assembler.refinement, kept = None, assembler.refinement
    unrefined = assembler.assemble(bases, [BOX[None]], own[None]).probabilities[0]
    assembler.refinement = kept
    torch.testing.assert_close(masks.probabilities[0], unrefined)
    assert (states.values[0] - states.values[-1]).abs().max() > 0.1


@torch.no_grad()
def test_a_step_is_a_weighted_sum_of_neighbours(bases: Bases) -> None:
    """One step of equal conductance against a convolution, in the middle of the RoI."""
    plain = BoundaryDiffusion(steps=3, guided=False)
    assembler = Blender(num_bases=4, attention_size=3, roi_size=14, refinement=InTurn([plain]))
    _, states = refine(assembler, bases, BOX, coefficients(assembler), [1.0] * 4)
    before, after = states.values[0].numpy(), states.values[1].numpy()
    # Grewenig et al., the first of three steps, in units of the rate at 0.25 · sigmoid(0).
    size = 0.125 * 0.5 / np.cos(np.pi / 14) ** 2
    around = before[:-2, 1:-1] + before[2:, 1:-1] + before[1:-1, :-2] + before[1:-1, 2:]
    expected = before[1:-1, 1:-1] + size * (around - 4 * before[1:-1, 1:-1])
    np.testing.assert_allclose(after[1:-1, 1:-1], expected, atol=1e-4)


def test_refinements_in_turn_have_the_steps_of_both(bases: Bases) -> None:
    both = InTurn([BoundaryDiffusion(steps=4), ConvRefinement()])
    assert refinement_steps(LinearAssembler(num_bases=4, refinement=both)) == 5
    plain = LinearAssembler(num_bases=4)
    assert refinement_steps(plain) == 0
    assert len(refine(plain, bases, BOX, coefficients(plain), [1.0] * 4)[0]) == 1


@pytest.mark.parametrize("family", ["blendmask", "yolact", "condinst"])
def test_the_last_mask_is_the_prediction(family: str, build: Build, sample: Sample) -> None:
    model = build(f"gated-{family}-tiny")
    view = inspect_image(model, sample)
    assert gated(model)
    assert view.boundary_basis is None
    refined = [view.refine(i, view.as_trained)[0] for i in range(len(view.instances))]
    assert len(refined) > 0
    assert torch.stack([r.masks[-1] for r in refined]).equal(view.instances.masks)
    last = torch.stack([r.iou[-1] for r in refined])
    torch.testing.assert_close(last, view.rated.iou, equal_nan=True)
    # The first is what the very same model would predict without its gate.
    model.assembler.refinement = None  # type: ignore[attr-defined]
    plain = inspect_image(model, sample).instances
    order = torch.cdist(view.instances.boxes, plain.boxes).argmin(1)  # ranked anew
    plain = plain.masks[order]
    assert torch.stack([r.masks[0] for r in refined]).equal(plain)
    assert family == "yolact" or not plain.equal(view.instances.masks)
