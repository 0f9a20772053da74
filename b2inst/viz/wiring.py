"""How a model's boundary is wired, found by what flows through it (paper §5.1.2, Fig. 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from b2inst.models import BasisSegmenter
from b2inst.structures import Bases, Features, Targets

_SIDE = 128  # pixels of the image looked at: all levels of the pyramid are there
_BOX = (16, 16, 48, 48)  # of its only instance


@dataclass(frozen=True)
class Wiring:
    """What Table 2's designs differ in. Levels of the pyramid are named by their stride."""

    levels: tuple[int, ...]  #: all there are
    num_bases: int  #: that masks are composed of, without the boundary
    bases_read: tuple[int, ...]  #: levels that the bases depend on
    boundary_read: tuple[int, ...] = ()  #: levels that the boundary depends on; none without one
    shared: bool = False  #: some weights serve both the bases and the boundary
    in_masks: bool = False  #: the masks depend on the boundary's prediction
    loss: Literal["image", "boxes"] | None = None  #: where the boundary is supervised


def find_wiring(model: BasisSegmenter) -> Wiring:
    """Send random features through a copy of the model and follow the gradients.

    Nothing is read from names, options or classes: a level counts as read if the output changes
    with it, the loss as one over the image if it pulls at the boundary far from any object.
    """
    lot = torch.Generator().manual_seed(0)
    model = deepcopy(model).cpu().eval()
    batch = model.preprocessor([torch.zeros(3, _SIDE, _SIDE, dtype=torch.uint8)])
    with torch.no_grad():
        pyramid: Features = model.backbone(batch.images)
    features = {
        stride: torch.randn(level.shape, generator=lot).requires_grad_()
        for stride, level in pyramid.items()
    }
    # Detaching stops learning, not the value, and it is the value's way that is drawn.
    with _Attached():
        bases: Bases = model.basis_head(features)
        coefficients = torch.randn(1, model.assembler.num_coefficients, generator=lot)
        masks = model.assembler.assemble(bases, [torch.tensor([_BOX]).float()], coefficients)
    boundary = bases.boundary_logits
    if boundary is None:
        return Wiring(tuple(features), bases.maps.shape[1], _moved_by(features, bases.maps))
    plain = [m for m in bases.maps.unbind(1) if not _moved_by({0: boundary}, m)]
    weights = dict(enumerate(model.basis_head.parameters()))
    moved = [set(_moved_by(weights, *of)) for of in (plain, [boundary])]
    return Wiring(
        levels=tuple(features),
        num_bases=len(plain),
        bases_read=_moved_by(features, *plain),
        boundary_read=_moved_by(features, boundary),
        shared=bool(moved[0] & moved[1]),
        in_masks=bool(_moved_by({0: boundary}, masks.probabilities)),
        loss=_supervision(model, features, bases),
    )


class _Attached(TorchFunctionMode):
    """Makes ``Tensor.detach`` do nothing."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return args[0] if func is Tensor.detach else func(*args, **(kwargs or {}))


def _supervision(
    model: BasisSegmenter, features: Features, bases: Bases
) -> Literal["image", "boxes"] | None:
    mask = torch.zeros(1, _SIDE, _SIDE, dtype=torch.uint8)
    left, top, right, bottom = _BOX
    mask[:, top:bottom, left:right] = 1
    target = Targets(
        image_id=0,
        boxes=torch.tensor([_BOX]).float(),
        labels=torch.zeros(1, dtype=torch.int64),
        masks=mask,
        semantic=mask[0],
    )
    assert bases.boundary_logits is not None
    losses = model.basis_head.loss(features, bases, [target]).values()
    pulls = [_gradient(bases.boundary_logits, loss) for loss in losses]
    where = torch.zeros_like(bases.boundary_logits)
    for pull in pulls:
        where = where if pull is None else where + pull.abs()
    if not where.any():
        return None
    beyond = bottom // bases.stride + 2  # RoIAlign reads a cell beyond its box
    return "image" if where[..., beyond:, beyond:].any() else "boxes"


def _moved_by(inputs: Mapping[int, Tensor], *outputs: Tensor) -> tuple[int, ...]:
    """Keys of the inputs that any of the outputs changes with."""
    total = sum(output.square().sum() for output in outputs)
    return tuple(
        key
        for key, value in inputs.items()
        if (slope := _gradient(value, total)) is not None and slope.any()
    )


def _gradient(value: Tensor, total: Any) -> Tensor | None:
    if not total.requires_grad:
        return None
    (slope,) = torch.autograd.grad(total, value, retain_graph=True, allow_unused=True)
    return slope
