"""How the mask of one instance comes about, basis by basis, whatever the assembler.

What a basis contributes is what the mask's logits lose when the basis is set to zero. Where masks
are a sum over the bases (BlendMask, YOLACT) that is exactly the basis' own term, and the terms add
up to the logits. CondInst's masks are no sum: there it is the effect of leaving the basis out, and
a rest remains that belongs to all of them together. Where masks are refined, all of this is about
the logits before: what becomes of them then is ``forming``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

import torch
from torch import Tensor

from b2inst.models.interfaces import Assembler
from b2inst.modules.blender import Blender
from b2inst.modules.dynamic_mask_head import DynamicMaskHead
from b2inst.modules.linear_assembler import LinearAssembler, crop
from b2inst.structures import Bases

#: Where the cells of a grid lie: left, right, top, bottom of the whole grid, in pixels.
Extent = tuple[float, float, float, float]


@dataclass(frozen=True)
class Composition:
    """The logits of one mask, as composed, and the weights that the bases have in them."""

    logits: Tensor  #: r×c, before the sigmoid
    extent: Extent  #: of the logits, in network-input pixels
    #: K×r×c attention in [0, 1], or K×1×1 coefficients in [-1, 1]; None: a basis has no weight.
    weights: Tensor | None


@dataclass(frozen=True)
class Contributions:
    """A mask's logits, taken apart."""

    whole: Composition
    parts: Tensor  #: K×r×c, the logits less those without the basis
    rest: Tensor  #: r×c, what the parts do not add up to; 0 where masks are a sum over the bases

    @property
    def shares(self) -> Tensor:
        """K, each basis' part of the mean absolute contribution; they sum to 1."""
        sizes = self.parts.abs().mean((1, 2))
        return sizes / sizes.sum().clamp(min=1e-12)

    @property
    def additive(self) -> bool:
        """Whether the parts add up to the logits, but for rounding."""
        return bool(self.rest.abs().max() <= 1e-3 * self.whole.logits.abs().max().clamp(min=1))


def scaled(bases: Bases, factors: Sequence[float]) -> Bases:
    """Bases with each of the K maps times a factor; 0 switches a basis off.

    The weights stay as they are: in BlendMask's softmax a basis that is off keeps its attention,
    which then goes to a map of zeros.
    """
    return replace(bases, maps=bases.maps * bases.maps.new_tensor(factors)[:, None, None])


@singledispatch
def compose(assembler: Assembler, bases: Bases, box: Tensor, coefficients: Tensor) -> Composition:
    """The mask of one instance before its sigmoid, and before it is refined.

    Args:
        bases: of a batch of one.
        box: 4, in network-input pixels.
        coefficients: D.

    Raises:
        TypeError: an assembler of another kind.
    """
    raise TypeError(f"no way to look into {type(assembler).__name__}: register one with `compose`")


@compose.register
def _blend(assembler: Blender, bases: Bases, box: Tensor, coefficients: Tensor) -> Composition:
    weights = assembler.attention(coefficients[None])[0]
    logits = (assembler.pool(bases, [box[None]])[0] * weights).sum(0)
    x1, y1, x2, y2 = box.tolist()
    return Composition(logits, (x1, x2, y1, y2), weights)


@compose.register
def _combine(
    assembler: LinearAssembler, bases: Bases, box: Tensor, coefficients: Tensor
) -> Composition:
    weights = coefficients.tanh()[:, None, None]
    maps, stride = bases.maps[0], bases.stride
    inside = crop(box[None] / stride, (maps.shape[1], maps.shape[2]))[0]
    rows, columns = _range(inside.any(1)), _range(inside.any(0))
    logits = (maps[:, rows, columns] * weights).sum(0)
    edges = (columns.start, columns.stop, rows.start, rows.stop)
    left, right, top, bottom = (edge * stride for edge in edges)
    return Composition(logits, (left, right, top, bottom), weights)


@compose.register
def _filter(
    assembler: DynamicMaskHead, bases: Bases, box: Tensor, coefficients: Tensor
) -> Composition:
    image = torch.zeros(1, dtype=torch.int64)
    logits = assembler.enlarged(assembler.filtered(bases, image, coefficients[None]))[0]
    # Where the cells lie is what the masks made of them say.
    masks = assembler.assemble(bases, [box[None]], coefficients[None])
    start, (height, width) = masks.origin - masks.stride / 2, logits.shape
    right, bottom = start + width * masks.stride, start + height * masks.stride
    return Composition(logits, (start, right, start, bottom), weights=None)


def contributions(
    assembler: Assembler,
    bases: Bases,
    box: Tensor,
    coefficients: Tensor,
    factors: Sequence[float],
) -> Contributions:
    """Take the mask of one instance apart, with the bases scaled.

    Args:
        bases, box, coefficients: as in ``compose``.
        factors: K, as in ``scaled``.
    """
    whole = compose(assembler, scaled(bases, factors), box, coefficients)
    parts = torch.stack(
        [
            whole.logits
            - compose(assembler, scaled(bases, without(factors, k)), box, coefficients).logits
            for k in range(len(factors))
        ]
    )
    return Contributions(whole, parts, whole.logits - parts.sum(0))


def without(factors: Sequence[float], basis: int) -> list[float]:
    """The factors with one basis off."""
    return [0.0 if k == basis else factor for k, factor in enumerate(factors)]


def _range(inside: Tensor) -> slice:
    """The cells that are inside, which lie side by side."""
    cells = inside.nonzero()[:, 0].tolist()
    return slice(cells[0], cells[-1] + 1) if cells else slice(0, 0)
