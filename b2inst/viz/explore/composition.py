"""How the mask of one instance is composed, basis by basis, and refined, step by step.

A basis contributes what the mask's logits lose when it is set to zero. In BlendMask and YOLACT,
whose masks are sums over the bases, that is the basis' own term. CondInst's masks are no sums: a
rest remains that belongs to all bases together. All of it is about the logits before a refinement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from b2inst.modules.blender import Blender
from b2inst.modules.interfaces import Assembler
from b2inst.modules.linear_assembler import LinearAssembler
from b2inst.modules.refinement import BoundaryDiffusion
from b2inst.structures import Bases, Masks, RoIMasks

#: Where the cells of a grid lie: left, right, top, bottom of the whole grid, in pixels.
Extent = tuple[float, float, float, float]


@dataclass(frozen=True)
class Logits:
    """Of N masks of one instance, in BlendMask's RoI or else in the cells of its box."""

    values: Tensor  #: N×r×c, before the sigmoid
    extent: Extent  #: in network-input pixels
    boundary: Tensor | None  #: r×c, the predicted probability there


def scaled(bases: Bases, factors: Sequence[float]) -> Bases:
    """Bases with each of the K maps times a factor; 0 switches a basis off.

    The weights stay as they are: in BlendMask's softmax a basis that is off keeps its attention,
    which then goes to a map of zeros.
    """
    return replace(bases, maps=bases.maps * bases.maps.new_tensor(factors)[:, None, None])


def without(factors: Sequence[float], basis: int) -> list[float]:
    """The factors with one basis off."""
    return [0.0 if k == basis else factor for k, factor in enumerate(factors)]


def basis_weights(assembler: Assembler, coefficients: Tensor) -> Tensor | None:
    """K×r×c attention in [0, 1], or K×1×1 coefficients in [-1, 1]; None: a basis has no weight."""
    if isinstance(assembler, Blender):
        return assembler.attention(coefficients[None])[0]
    return coefficients.tanh()[:, None, None] if isinstance(assembler, LinearAssembler) else None


def contributions(
    assembler: Assembler, bases: Bases, box: Tensor, coefficients: Tensor, factors: Sequence[float]
) -> tuple[Logits, Tensor]:
    """The logits of one mask with each basis times a factor, and K×r×c, what each contributes.

    Args:
        bases: of a batch of one.
        box: 4, in network-input pixels.
        coefficients: D.
        factors: K.
    """
    whole, *others = (
        _assemble(assembler, scaled(bases, own), box, coefficients, lambda x, _: x)[1]
        for own in (factors, *(without(factors, k) for k in range(len(factors))))
    )
    return whole, whole.values - torch.cat([other.values for other in others])


def steps_of(refinement: Any) -> int:
    """S, between the composed logits and the mask; 0 without a refinement."""
    if refinement is None:
        return 0
    with torch.no_grad():
        weight = next(refinement.parameters())
        return len([*refinement.states(weight.new_zeros(1, 2, 2), None)])


def is_gated(refinement: nn.Module | None) -> bool:
    """Whether a predicted boundary bounds the steps."""
    parts = () if refinement is None else refinement.modules()
    return any(isinstance(p, BoundaryDiffusion) and p.raw_sharpness is not None for p in parts)


def refine(
    assembler: Assembler, bases: Bases, box: Tensor, coefficients: Tensor
) -> tuple[Masks, Logits]:
    """One mask as composed and after each of S steps: S+1 masks and their logits.

    Raises:
        ValueError: its masks are not refined.
    """
    refinement = getattr(assembler, "refinement", None)
    if refinement is None:
        raise ValueError("masks of this model have no steps: its assembler has no refinement")

    def unrolled(logits: Tensor, boundary: Tensor | None) -> Tensor:
        """For S+1 copies of one mask, each of which is stopped a step later."""
        boundary = None if boundary is None else boundary[:1]
        return torch.cat([logits[:1], *refinement.states(logits[:1], boundary)])

    return _assemble(assembler, bases, box, coefficients, unrolled, steps_of(refinement) + 1)


def _assemble(
    assembler: Assembler,
    bases: Bases,
    box: Tensor,
    coefficients: Tensor,
    refinement: Callable[[Tensor, Tensor | None], Tensor],
    count: int = 1,
) -> tuple[Masks, Logits]:
    """Copies of one mask with another refinement in place of the assembler's own."""
    calls = []

    def watched(logits: Tensor, boundary: Tensor | None) -> Tensor:
        calls.append((refinement(logits, boundary), boundary))
        return calls[-1][0]

    copied: Any = deepcopy(assembler)
    copied.refinement = None
    del copied.refinement  # a module by now, which a function cannot take the place of
    copied.refinement = watched
    masks = copied.assemble(bases, [box.expand(count, -1)], coefficients.expand(count, -1))
    (values, boundary), (x1, y1, x2, y2) = calls[-1], box.tolist()
    if not isinstance(masks, RoIMasks):
        stride, (height, width) = bases.stride, values.shape[1:]
        left, top = max(int(x1 // stride), 0), max(int(y1 // stride), 0)
        right, bottom = min(int(-(-x2 // stride)), width), min(int(-(-y2 // stride)), height)
        values = values[:, top:bottom, left:right]
        boundary = None if boundary is None else boundary[:, top:bottom, left:right]
        x1, y1, x2, y2 = (float(edge * stride) for edge in (left, top, right, bottom))
    shown = None if boundary is None else boundary[0].sigmoid()
    return masks, Logits(values, (x1, x2, y1, y2), shown)
