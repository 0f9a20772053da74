"""Diagrams of models after the paper's Fig. 3, drawn from the models themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from b2inst.models import BasisSegmenter
from b2inst.modules.boundary_basis import BoundaryBasis, BoundarySupervision
from b2inst.structures import Features
from b2inst.viz.figure import ROW_COLOURS, new_figure
from b2inst.viz.qualitative import gated

_TILES = (ROW_COLOURS[3], ROW_COLOURS[7], ROW_COLOURS[2], ROW_COLOURS[1])  # Fig. 3's, in its order
_BOUNDARY, _LINE, _UNUSED = "#CC0000", "#333333", "#BBBBBB"
_ACROSS = 3
_UPPER, _LOWER = 4.5, 1.4  # heights of the bases' and of the boundary's row


@dataclass(frozen=True)
class Wiring:
    """How the bases and the boundary of a model are connected; levels are named by their stride."""

    levels: tuple[int, ...]  #: all levels of the pyramid
    num_bases: int  #: without the boundary
    bases_read: tuple[int, ...]  #: levels that the bases depend on
    boundary_read: tuple[int, ...] = ()  #: levels that the boundary depends on
    shared: bool = False  #: whether the boundary is a map of the basis head
    use: tuple[str, ...] = ()  #: of the boundary in the masks: "a basis", "a gate"
    loss: str | None = None  #: where the boundary is trained: "over the image", "in each box"


@torch.enable_grad()
def find_wiring(model: BasisSegmenter) -> Wiring:
    """Find a model's wiring; a head reads a level if its output has a gradient there."""
    model = deepcopy(model).cpu().eval()
    head: Any = model.basis_head
    pyramid = model.backbone(torch.zeros(1, 3, 128, 128))  # so large that it has all levels
    levels = {stride: level.detach().requires_grad_() for stride, level in pyramid.items()}
    bases = head(levels)
    num_bases = bases.maps.shape[1] - isinstance(head, BoundaryBasis)
    read = _levels_of(bases.maps[:, :num_bases], levels)
    if not isinstance(head, BoundarySupervision):
        return Wiring(tuple(levels), num_bases, read)
    trained = "in each box" if head.criterion.local else "over the image"
    return Wiring(
        levels=tuple(levels),
        num_bases=num_bases,
        bases_read=read,
        boundary_read=_levels_of(bases.boundary_logits, levels),
        shared=head.branch is None,
        use=("a basis",) * isinstance(head, BoundaryBasis) + ("a gate",) * gated(model),
        loss=trained if any(head.criterion.weights.values()) else None,
    )


def _levels_of(maps: Tensor, levels: Features) -> tuple[int, ...]:
    inputs = [*levels.values()]
    gradients = torch.autograd.grad(maps.sum(), inputs, retain_graph=True, allow_unused=True)
    return tuple(s for s, found in zip(levels, gradients, strict=True) if found is not None)


def diagram_figure(models: Mapping[str, BasisSegmenter]) -> Figure:
    """Draw models by name, side by side: pyramid → heads → bases → masks, the boundary in red."""
    columns = min(_ACROSS, len(models))
    rows = -(-len(models) // columns)
    figure = new_figure(3.5 * columns, 2.35 * rows)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    for axis, (name, model) in zip(axes, models.items(), strict=False):
        axis.set_title(name, fontsize=9)
        axis.set(xlim=(0, 10), ylim=(0, 6.2))
        _draw(axis, find_wiring(model))
    return figure


def _draw(axis: Axes, wiring: Wiring) -> None:
    for i, stride in enumerate(wiring.levels):
        width, height = 1.7 - 0.24 * i, 3.0 + 0.85 * (i - (len(wiring.levels) - 1) / 2)
        used = stride in {*wiring.bases_read, *wiring.boundary_read}
        box = (1.0 - width / 2, height - 0.27, width, 0.54)
        _box(axis, box, f"1/{stride}", _LINE if used else _UNUSED)
        for read, y, shift, colour in (
            (wiring.bases_read, _UPPER, 0.12, _LINE),
            (wiring.boundary_read, _LOWER, -0.12, _BOUNDARY),
        ):
            if stride in read:
                _arrow(axis, [(1.0 + width / 2, height + shift), (2.9, y)], colour)
    if wiring.shared:
        _box(axis, (2.9, 0.5, 1.5, 5.0), "shared\nhead")
    else:
        _box(axis, (2.9, _UPPER - 0.7, 1.5, 1.4), "basis\nhead")
    _arrow(axis, [(4.4, _UPPER), (5.2, _UPPER)])
    for i in range(wiring.num_bases):
        back = i / max(wiring.num_bases - 1, 1)
        place = (5.2 + 0.84 * back, _UPPER - 0.7 + 0.3 * back, 1.0, 1.0)
        colour = _TILES[i % len(_TILES)]
        _box(axis, place, fc=colour, ec="white", lw=min(0.8, 3 / wiring.num_bases))
    _arrow(axis, [(7.04, _UPPER), (7.9, _UPPER)])
    _box(axis, (7.9, _UPPER - 0.6, 1.6, 1.2), "compose\nmasks")
    if wiring.boundary_read:
        _draw_boundary(axis, wiring)


def _draw_boundary(axis: Axes, wiring: Wiring) -> None:
    text: dict[str, Any] = {"fontsize": 6.5, "color": _BOUNDARY}
    if not wiring.shared:
        _box(axis, (2.9, _LOWER - 0.7, 1.5, 1.4), "boundary\nbranch", _BOUNDARY)
    _arrow(axis, [(4.4, _LOWER), (5.2, _LOWER)], _BOUNDARY)
    _box(axis, (5.2, _LOWER - 0.5, 1.0, 1.0), fc=_BOUNDARY, ec="white", lw=0.8)
    if wiring.use:
        _arrow(axis, [(5.7, _LOWER + 0.5), (5.7, 3.0), (8.7, 3.0), (8.7, _UPPER - 0.6)], _BOUNDARY)
        axis.text(7.2, 3.1, f"as {' and '.join(wiring.use)}", ha="center", **text)
    if wiring.loss is not None:
        axis.plot([6.2, 7.4], [_LOWER, _LOWER], color=_BOUNDARY, linestyle=(0, (3, 2)), lw=1.2)
        axis.text(7.5, _LOWER, f"loss\n{wiring.loss}", va="center", **text)


def _box(
    axis: Axes,
    place: tuple[float, float, float, float],
    text: str = "",
    colour: str = _LINE,
    **look: Any,
) -> None:
    x, y, width, height = place
    look = {"fc": "white", "ec": colour, "lw": 1.2, **look}
    axis.add_patch(Rectangle((x, y), width, height, zorder=2, **look))
    middle = (x + width / 2, y + height / 2)
    axis.text(*middle, text, fontsize=6.5, ha="center", va="center", color=colour)


def _arrow(axis: Axes, points: Sequence[tuple[float, float]], colour: str = _LINE) -> None:
    axis.plot(*zip(*points[:-1], strict=True), color=colour, lw=1.2)
    style = {"arrowstyle": "-|>", "color": colour, "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", points[-1], points[-2], arrowprops={**style, "mutation_scale": 8})
