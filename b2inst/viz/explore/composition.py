"""How the mask of one instance is composed, basis by basis, and refined, step by step.

The contribution of a basis is what the mask's logits lose if it is set to zero. In BlendMask and
YOLACT, whose masks are sums over bases, this is the basis' own term. CondInst's masks are no sums,
so the contributions do not add up. They concern the logits before any refinement.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from b2inst.modules.blender import Blender
from b2inst.modules.interfaces import Assembler
from b2inst.modules.linear_assembler import LinearAssembler
from b2inst.structures import Bases, Masks, RoIMasks

#: Left, right, top and bottom of a grid of cells, in pixels.
Extent = tuple[float, float, float, float]


@dataclass(frozen=True)
class Logits:
    """Logits of one mask, in BlendMask's RoI or in the cells of its box."""

    values: Tensor  #: S+1×r×c, as composed and after each step of the refinement
    extent: Extent  #: in network-input pixels
    boundary: Tensor | None  #: r×c, probability of the predicted boundary


def without(factors: Sequence[float], basis: int) -> list[float]:
    """Set the factor of one basis to 0."""
    return [0.0 if k == basis else factor for k, factor in enumerate(factors)]


def basis_weights(assembler: Assembler, coefficients: Tensor) -> Tensor | None:
    """Compute K×r×c attention or K×1×1 coefficients; None if masks are not weighted sums."""
    if isinstance(assembler, Blender):
        return assembler.attention(coefficients[None])[0]
    return coefficients.tanh()[:, None, None] if isinstance(assembler, LinearAssembler) else None


def contributions(
    assembler: Assembler, bases: Bases, box: Tensor, coefficients: Tensor, factors: Sequence[float]
) -> tuple[Logits, Tensor]:
    """Compute the logits of one mask, and what each basis contributes to them, K×r×c.

    Args:
        assembler: The model's assembler.
        bases: K bases of a batch of one.
        box: 4, in network-input pixels.
        coefficients: D.
        factors: K factors of the bases.
    """
    whole, *others = (
        refine(assembler, bases, box, coefficients, own)[1]
        for own in (factors, *(without(factors, k) for k in range(len(factors))))
    )
    return whole, whole.values[0] - torch.stack([other.values[0] for other in others])


def refinement_steps(assembler: Assembler) -> int:
    """Count the steps of the masks' refinement; 0 if they are not refined."""
    if assembler.refinement is None:
        return 0
    with torch.no_grad():
        return len([*assembler.refinement.states(torch.zeros(1, 2, 2), None)])


def refine(
    assembler: Assembler, bases: Bases, box: Tensor, coefficients: Tensor, factors: Sequence[float]
) -> tuple[Masks, Logits]:
    """Compose one mask, with each of K bases times a factor, and refine it.

    In BlendMask's softmax, a basis times 0 keeps its attention. Arguments are as for
    :func:`contributions`.

    Returns:
        S+1 masks, one per step, and their logits.
    """
    scaled = bases.maps * bases.maps.new_tensor(factors)[:, None, None]
    bases = replace(bases, maps=scaled)
    seen = []

    def unrolled(logits: Tensor, boundary: Tensor | None) -> Tensor:
        boundary = None if boundary is None else boundary[:1]
        refinement = assembler.refinement
        states = () if refinement is None else refinement.states(logits[:1], boundary)
        seen.append((torch.cat([logits[:1], *states]), boundary))
        return seen[-1][0]

    changed: Any = copy(assembler)
    changed.refined = unrolled
    count = refinement_steps(assembler) + 1
    masks = changed.assemble(bases, [box.expand(count, -1)], coefficients.expand(count, -1))
    (values, boundary), (x1, y1, x2, y2) = seen[-1], box.tolist()
    if not isinstance(masks, RoIMasks):
        stride, (height, width) = bases.stride, values.shape[1:]
        left, top = max(int(x1 // stride), 0), max(int(y1 // stride), 0)
        right, bottom = min(int(-(-x2 // stride)), width), min(int(-(-y2 // stride)), height)
        cells = (..., slice(top, bottom), slice(left, right))
        values, boundary = values[cells], None if boundary is None else boundary[cells]
        x1, y1, x2, y2 = (float(edge * stride) for edge in (left, top, right, bottom))
    shown = None if boundary is None else boundary[0].sigmoid()
    return masks, Logits(values, (x1, x2, y1, y2), shown)
