"""How the mask of one instance forms, step by step, where a model refines what it composes."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from b2inst.models.interfaces import Assembler
from b2inst.modules.refinement import BoundaryDiffusion, Refinement
from b2inst.structures import Bases, Masks, RoIMasks
from b2inst.viz.explore.composition import Extent, compose


@dataclass(frozen=True)
class Forming:
    """A mask as it is composed of the bases, and after each of S steps of the refinement."""

    logits: Tensor  #: (S+1)×r×c, in the cells that are refined, where the mask may lie
    extent: Extent  #: of the logits, in network-input pixels
    guide: Tensor | None  #: r×c probability of the boundary that bounds the steps; None: nothing
    masks: Masks  #: S+1, what the assembler makes of these logits

    @property
    def steps(self) -> int:
        """S."""
        return len(self.logits) - 1


class Unrolled(nn.Module):
    """A refinement of S steps for S+1 copies of one mask, each of which is stopped a step later.

    Args:
        refinement: see ``b2inst.modules.refinement``.
    """

    def __init__(self, refinement: nn.Module) -> None:
        super().__init__()
        self.refinement = refinement
        self.boundary: Tensor | None = None  #: 1×h×w logits of the last call
        self.states = torch.zeros(0)  #: (S+1)×h×w, what the last call gave

    def forward(self, logits: Tensor, boundary: Tensor | None) -> Tensor:
        composed = logits[:1]
        self.boundary = None if boundary is None else boundary[:1]
        self.states = torch.cat([composed, *_states(self.refinement, composed, self.boundary)])
        return self.states


def refinement_of(assembler: Assembler) -> nn.Module | None:
    """What stands between an assembler's logits and its masks."""
    return getattr(assembler, "refinement", None)


def steps_of(refinement: nn.Module | None) -> int:
    """S; 0 without a refinement."""
    if refinement is None:
        return 0
    with torch.no_grad():
        weight = next(refinement.parameters())
        return sum(1 for _ in _states(refinement, weight.new_zeros(1, 2, 2), None))


def guided(refinement: nn.Module | None) -> bool:
    """Whether a boundary has a say in it: it is a gate."""
    parts = () if refinement is None else refinement.modules()
    return any(isinstance(p, BoundaryDiffusion) and p.raw_sharpness is not None for p in parts)


def form(assembler: Assembler, bases: Bases, box: Tensor, coefficients: Tensor) -> Forming:
    """Follow one mask from the bases to its last step.

    The logits of BlendMask are those of its RoI, the others' lie on the grid of the bases, cut to
    the cells that ``compose`` says the mask may cover.

    Args:
        bases: of a batch of one.
        box: 4, in network-input pixels.
        coefficients: D.

    Raises:
        TypeError: an assembler of a kind that ``compose`` does not know.
        ValueError: its masks are not refined.
    """
    refinement = refinement_of(assembler)
    if refinement is None:
        raise ValueError("masks of this model have no steps: its assembler has no refinement")
    extent = compose(assembler, bases, box, coefficients).extent
    count = steps_of(refinement) + 1
    # What this one assembles is each step's mask, pooled, cropped or enlarged as any other.
    watched = deepcopy(assembler)
    unrolled = Unrolled(refinement)
    watched.refinement = unrolled  # type: ignore[attr-defined]
    masks = watched.assemble(bases, [box.expand(count, -1)], coefficients.expand(count, -1))
    states = unrolled.states
    boundary = unrolled.boundary if guided(refinement) else None
    if not isinstance(masks, RoIMasks):
        left, right, top, bottom = (round(edge / bases.stride) for edge in extent)
        states = states[:, top:bottom, left:right]
        boundary = None if boundary is None else boundary[:, top:bottom, left:right]
    return Forming(states, extent, None if boundary is None else boundary[0].sigmoid(), masks)


def _states(refinement: nn.Module, logits: Tensor, boundary: Tensor | None) -> Iterator[Tensor]:
    return cast(Refinement, refinement).states(logits, boundary)
