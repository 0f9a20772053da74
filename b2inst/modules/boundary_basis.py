"""Boundary supervision, and the holistic boundary basis (HBB; paper §4.1, Table 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from b2inst.losses import crisp_boundary_loss, dice_loss
from b2inst.modules.interfaces import BasisPredictor
from b2inst.ops.boundary import boundary_target, laplacian_boundary
from b2inst.ops.distributed import mean_weight
from b2inst.ops.masks import crop_masks
from b2inst.structures import Bases, Features, Targets


class BoundaryLoss(nn.Module):
    """The paper's losses that train a map to show boundaries (§4.1).

    Args:
        local: In the true box of each instance, to its boundary alone, as in two-stage methods;
            otherwise over the whole image, to the boundaries of all instances.
        two_sided: The target marks the cells on both sides of a boundary; not if ``local``.
        bce_weight, dice_weight, crisp_weight: Of the three losses; 0 leaves one out.
    """

    roi_size = 28  #: in cells, if local

    def __init__(
        self,
        *,
        local: bool = False,
        two_sided: bool = False,
        bce_weight: float = 1.0,
        dice_weight: float = 1.0,
        crisp_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.local = local
        self.two_sided = two_sided
        self.weights = {"bce": bce_weight, "dice": dice_weight, "crisp": crisp_weight}

    def forward(self, logits: Tensor, stride: float, targets: list[Targets]) -> dict[str, Tensor]:
        """Losses by name of B×1×h×w boundary logits with ``stride`` input pixels per cell."""
        logits, share = logits.float(), torch.ones((), device=logits.device)
        if self.local:
            boxes, size = [t.boxes for t in targets], self.roi_size
            masks = torch.cat([crop_masks(t.masks, t.boxes, size) for t in targets])
            truth = laplacian_boundary(masks, frame="constant").float()
            share = mean_weight(truth.new_tensor(len(truth)))
            pooled = roi_align(logits, boxes, size, 1 / stride, sampling_ratio=2, aligned=True)
            # Without instances a map without weight, so that all parameters have a gradient.
            logits = pooled if len(truth) else 0 * logits[:1]
            truth = truth if len(truth) else logits[:, 0].detach()
        else:
            truth = _truth(logits, stride, [t.masks for t in targets], self.two_sided)
        maps = logits[:, 0]
        probabilities = maps.sigmoid()
        losses = {
            "bce": F.binary_cross_entropy_with_logits(maps, truth),
            "dice": dice_loss(probabilities, truth).mean(),
            "crisp": crisp_boundary_loss(probabilities, truth).mean(),
        }
        used = ((name, weight) for name, weight in self.weights.items() if weight)
        return {f"loss_boundary_{name}": share * (weight * losses[name]) for name, weight in used}


def _truth(logits: Tensor, stride: float, masks: Sequence[Tensor], two_sided: bool) -> Tensor:
    """Boundaries of the true masks of each image in the cells of B×1×h×w logits, B×h×w."""
    size = (logits.shape[-2], logits.shape[-1])
    target = partial(boundary_target, stride=stride, size=size, two_sided=two_sided)
    return torch.stack([target(own) for own in masks])


class BoundarySupervision(BasisPredictor):
    """A basis head with a supervised boundary that masks do not use (Table 2 a, b, d).

    Args:
        basis_head: Predicts the bases. Without ``branch`` its last map is the boundary.
        branch: Basis head of one map, the boundary, on the same grid.
        criterion: Loss of the map.
    """

    def __init__(
        self,
        *,
        basis_head: BasisPredictor,
        branch: BasisPredictor | None,
        criterion: BoundaryLoss,
    ) -> None:
        super().__init__()
        self.basis_head = basis_head
        self.branch = branch
        self.criterion = criterion
        self.num_bases = basis_head.num_bases - (branch is None)  #: that the assembler gets

    def forward(self, features: Features) -> Bases:
        bases = self.basis_head(features)
        if self.branch is None:
            return replace(bases, maps=bases.maps[:, :-1], boundary_logits=bases.maps[:, -1:])
        return replace(bases, boundary_logits=self.branch(features).maps)

    def loss(self, features: Features, bases: Bases, targets: list[Targets]) -> dict[str, Tensor]:
        losses = self.basis_head.loss(features, bases, targets)
        return losses | self.criterion(bases.boundary_logits, bases.stride, targets)


class BoundaryBasis(BoundarySupervision):
    """The holistic boundary basis: the boundary map is also the last basis (Table 2 c, e).

    Args:
        detach: Stop the mask loss's gradient at the boundary map.
        parts: Arguments of ``BoundarySupervision``.
    """

    def __init__(self, *, detach: bool = True, **parts: Any) -> None:
        super().__init__(**parts)
        self.detach = detach
        self.num_bases += 1

    def forward(self, features: Features) -> Bases:
        bases = super().forward(features)
        boundary = bases.boundary_logits
        assert boundary is not None
        used = boundary.detach() if self.detach else boundary
        return replace(bases, maps=torch.cat([bases.maps, used], dim=1))


def add_boundary(
    basis_head: BasisPredictor,
    make_branch: Callable[..., BasisPredictor],
    *,
    branch_channels: int,
    branch_convs: int,
    pyramid_strides: Sequence[int],
    fused: bool = False,
    as_basis: bool = True,
    detach: bool = True,
    **losses: Any,
) -> BoundarySupervision:
    """Add a supervised boundary to a basis head (paper §4.1).

    The defaults are design (e) of Table 2, the holistic boundary basis. The others: (a) ``local``
    and not ``as_basis``; (b) ``fused`` and not ``as_basis``; (c) ``fused``; (d) not ``as_basis``.

    Args:
        basis_head: Predicts the other bases.
        make_branch: Builds a branch from arguments of ``BasisHead``.
        branch_channels: Width of the boundary's own branch; 0 for none: the last map of the basis
            head is then the boundary.
        branch_convs: Convolutions of the branch.
        pyramid_strides: Levels that a fused branch reads, finest first.
        fused: The branch reads all these levels, summed, instead of the finest.
        as_basis: The boundary is a basis too (``BoundaryBasis``).
        detach: The mask loss does not train the boundary.
        losses: Arguments of ``BoundaryLoss``.

    Raises:
        ValueError: ``fused`` without a branch.
    """
    if fused and not branch_channels:
        raise ValueError("fused needs a separate boundary branch: set branch_channels > 0")
    branch = None
    if branch_channels:
        branch = make_branch(
            num_bases=1,
            strides=pyramid_strides if fused else pyramid_strides[:1],
            channels=branch_channels,
            num_convs=branch_convs,
        )
    joined = partial(BoundaryBasis, detach=detach) if as_basis else BoundarySupervision
    return joined(basis_head=basis_head, branch=branch, criterion=BoundaryLoss(**losses))


class OracleBoundary(nn.Module):
    """Adds the boundary of the true masks to the bases.

    Args:
        as_basis: It is also the last of the bases.
        two_sided: See ``boundary_target``.
    """

    logit = 4.0  #: of a cell on a boundary; all others have its negative

    def __init__(self, *, as_basis: bool = False, two_sided: bool = False) -> None:
        super().__init__()
        self.as_basis = as_basis
        self.two_sided = two_sided

    def forward(self, bases: Bases, truths: Sequence[Tensor]) -> Bases:
        """Add the boundary of each image's N×H×W true masks, in network-input pixels."""
        truth = _truth(bases.maps, bases.stride, truths, self.two_sided)
        boundary = self.logit * (2 * truth[:, None] - 1).to(bases.maps)
        maps = torch.cat([bases.maps, boundary], dim=1) if self.as_basis else bases.maps
        return replace(bases, maps=maps, boundary_logits=boundary)
