"""How the mask of one instance is composed, basis by basis.

The contribution of a basis is what the mask's logits lose if it is set to zero. In BlendMask and
YOLACT, whose masks are sums over bases, this is the basis' own term. CondInst's masks are no sums,
so the contributions do not add up. All of it concerns the logits before any refinement.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from b2inst.modules.blender import Blender
from b2inst.modules.interfaces import Assembler
from b2inst.modules.linear_assembler import LinearAssembler
from b2inst.structures import Bases, RoIMasks

#: Left, right, top and bottom of a grid of cells, in pixels.
Extent = tuple[float, float, float, float]


@dataclass(frozen=True)
class Logits:
    """Logits of one mask, in BlendMask's RoI or in the cells of its box."""

    values: Tensor  #: r×c
    extent: Extent  #: in network-input pixels


def scaled(bases: Bases, factors: Sequence[float]) -> Bases:
    """Multiply each of the K maps by a factor; 0 switches a basis off.

    In BlendMask's softmax, a basis that is off keeps its attention.
    """
    return replace(bases, maps=bases.maps * bases.maps.new_tensor(factors)[:, None, None])


def without(factors: Sequence[float], basis: int) -> list[float]:
    """Set the factor of one basis to 0."""
    return [0.0 if k == basis else factor for k, factor in enumerate(factors)]


def basis_weights(assembler: Assembler, coefficients: Tensor) -> Tensor | None:
    """Compute the weights of the bases: K×r×c attention or K×1×1 coefficients.

    Returns:
        Weights in [0, 1] (attention) or [-1, 1]; None if masks are not weighted sums.
    """
    if isinstance(assembler, Blender):
        return assembler.attention(coefficients[None])[0]
    return coefficients.tanh()[:, None, None] if isinstance(assembler, LinearAssembler) else None


def contributions(
    assembler: Assembler, bases: Bases, box: Tensor, coefficients: Tensor, factors: Sequence[float]
) -> tuple[Logits, Tensor]:
    """Compute the logits of one mask, and what each basis contributes to them.

    Args:
        assembler: The model's assembler.
        bases: K bases of a batch of one.
        box: 4, in network-input pixels.
        coefficients: D.
        factors: K factors of the bases.

    Returns:
        Logits, and K×r×c contributions.
    """
    whole, *others = (
        _logits(assembler, scaled(bases, own), box, coefficients)
        for own in (factors, *(without(factors, k) for k in range(len(factors))))
    )
    return whole, whole.values - torch.stack([other.values for other in others])


def _logits(assembler: Assembler, bases: Bases, box: Tensor, coefficients: Tensor) -> Logits:
    """The logits of one mask as they arrive at the refinement, which here changes nothing."""
    arrived = []

    def watched(logits: Tensor, boundary: Tensor | None) -> Tensor:
        arrived.append(logits)
        return logits

    copied: Any = deepcopy(assembler)
    copied.refinement = None
    del copied.refinement  # a module by now, which a function cannot replace
    copied.refinement = watched
    masks = copied.assemble(bases, [box[None]], coefficients[None])
    (values,), (x1, y1, x2, y2) = arrived[-1], box.tolist()
    if not isinstance(masks, RoIMasks):
        stride, (height, width) = bases.stride, values.shape
        left, top = max(int(x1 // stride), 0), max(int(y1 // stride), 0)
        right, bottom = min(int(-(-x2 // stride)), width), min(int(-(-y2 // stride)), height)
        values = values[top:bottom, left:right]
        x1, y1, x2, y2 = (float(edge * stride) for edge in (left, top, right, bottom))
    return Logits(values, (x1, x2, y1, y2))
