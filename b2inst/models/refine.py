"""What is put between logits and masks, from options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from b2inst.modules.boundary_diffusion import BoundaryDiffusion
from b2inst.modules.refinement import ConvRefinement, InTurn

_PARTS: dict[str, Callable[..., nn.Module]] = {
    "diffusion": BoundaryDiffusion,
    "convs": ConvRefinement,
}


def refinement(parts: Mapping[str, Mapping[str, Any]]) -> InTurn | None:
    """Refinements of mask logits, in the order given; None without any.

    Args:
        parts: options of each, by name: "diffusion" (``BoundaryDiffusion``), "convs"
            (``ConvRefinement``).

    Raises:
        ValueError: an unknown name, with the known ones.
    """
    if unknown := [name for name in parts if name not in _PARTS]:
        raise ValueError(f"refine {unknown}: choose from {list(_PARTS)}")
    return InTurn([_PARTS[name](**options) for name, options in parts.items()]) if parts else None
