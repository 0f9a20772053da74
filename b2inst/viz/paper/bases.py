"""The bases that a model composes its masks of."""

from __future__ import annotations

from torch import Tensor

from b2inst.models import Explanation
from b2inst.viz.draw import Picture, draw_heat, draw_instances


def basis_pictures(explanation: Explanation, *, side: int = 384) -> dict[str, Picture]:
    """The image, each basis as the masks use it, and the boundary where one is predicted.

    A basis is drawn between its own extremes over the image, blue to red and zero in white where
    it has both signs, so that what differs is its pattern, not its scale.

    Args:
        side: small images are enlarged by a whole factor to at least this shorter side.

    Returns:
        By title: "image", "basis 1" …, and "boundary basis" last: the boundary's probability.
    """
    image = draw_instances(
        explanation.image, explanation.instances, score_threshold=2, captions=False, side=side
    )
    size = image.shape[:2]
    height, width = explanation.content
    maps = explanation.bases.maps[0, :, :height, :width]
    pictures = {"image": image}
    boundary = explanation.boundary
    logits = explanation.bases.boundary_logits
    # Where the boundary is a basis it is the last one, and shown once.
    joined = logits is not None and bool((logits[0, 0, :height, :width] == maps[-1]).all())
    for i, values in enumerate(maps[:-1] if joined else maps, start=1):
        pictures[f"basis {i}"] = draw_heat(_symmetric(values), size, colours="RdBu_r")
    if boundary is not None:
        pictures["boundary basis" if joined else "boundary"] = draw_heat(boundary, size)
    return pictures


def _symmetric(values: Tensor) -> Tensor:
    """Values to [0, 1], zero to ½, by the largest magnitude."""
    largest = values.abs().max().clamp(min=1e-6)
    return values / largest / 2 + 0.5
