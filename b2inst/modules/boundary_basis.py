"""The boundary beside the bases, and as one of them: HBB (paper §4.1, Table 2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from b2inst.modules.basis_heads import BasisPredictor
from b2inst.modules.boundary_loss import HolisticBoundaryLoss, RoIBoundaryLoss
from b2inst.ops.boundary import boundary_target
from b2inst.structures import Bases, Features, Targets


class BoundarySupervision(nn.Module):
    """A basis head with a supervised boundary map beside its bases.

    The masks do not use the map: learning it shapes the features. These are designs (a), (b) and
    (d) of Table 2, depending on what the branch reads and where the criterion looks.

    Args:
        basis_head: predicts the bases. Without ``branch`` its last map is the boundary.
        branch: a basis head of one map, the boundary, on the same grid.
        criterion: losses of the map.
    """

    def __init__(
        self,
        *,
        basis_head: BasisPredictor,
        branch: BasisPredictor | None,
        criterion: HolisticBoundaryLoss | RoIBoundaryLoss,
    ) -> None:
        super().__init__()
        self.basis_head = basis_head
        self.branch = branch
        self.criterion = criterion

    @property
    def num_bases(self) -> int:
        """Number of bases K that the assembler gets."""
        return self.basis_head.num_bases - (self.branch is None)

    def forward(self, features: Features) -> Bases:
        bases = self.basis_head(features)
        if self.branch is None:
            return replace(bases, maps=bases.maps[:, :-1], boundary_logits=bases.maps[:, -1:])
        return replace(bases, boundary_logits=self.branch(features).maps)

    def loss(self, features: Features, bases: Bases, targets: list[Targets]) -> dict[str, Tensor]:
        """Losses of the basis head and of the boundary."""
        assert bases.boundary_logits is not None
        losses = self.basis_head.loss(features, bases, targets)
        return losses | self.criterion(bases.boundary_logits, bases.stride, targets)


class BoundaryBasis(BoundarySupervision):
    """The holistic boundary basis: the boundary map is also the last of the bases.

    Designs (c) and (e) of Table 2; (e) is B2Inst's.

    Args:
        detach: the mask loss does not train the boundary through its use as a basis.
        parts: see ``BoundarySupervision``.
    """

    def __init__(self, *, detach: bool = True, **parts: Any) -> None:
        super().__init__(**parts)
        self.detach = detach

    @property
    def num_bases(self) -> int:
        return super().num_bases + 1

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
    in_channels: int,
    branch_channels: int,
    branch_convs: int,
    pyramid_strides: Sequence[int],
    fused: bool = False,
    local: bool = False,
    as_basis: bool = True,
    detach: bool = True,
    **losses: Any,
) -> BoundarySupervision:
    """Add a supervised boundary to a basis head (paper §4.1).

    The defaults are design (e) of Table 2, the holistic boundary basis. The others: (a) ``local``
    and not ``as_basis``; (b) ``fused`` and not ``as_basis``; (c) ``fused``; (d) not ``as_basis``.

    Args:
        basis_head: the baseline's.
        make_branch: builds a branch from arguments of ``BasisHead``.
        in_channels: channels of the features.
        branch_channels: width of the boundary's own branch; 0 shares the basis head, whose last
            map is then the boundary.
        branch_convs: number of convolutions of that branch.
        pyramid_strides: levels that a fused branch reads, finest first; a single one reads that.
        fused: the branch reads several levels of the pyramid, summed, instead of the finest.
        local: the loss compares each instance's box with its own boundary, not the whole image.
        as_basis: the boundary joins the bases that masks are composed of.
        detach: the mask loss does not train the boundary through its use as a basis.
        losses: arguments of the losses in ``b2inst.modules.boundary_loss``.

    Raises:
        ValueError: ``fused`` without a branch.
    """
    branch = None
    if branch_channels:
        branch = make_branch(
            in_channels=in_channels,
            num_bases=1,
            strides=pyramid_strides if fused else pyramid_strides[:1],
            channels=branch_channels,
            num_convs=branch_convs,
        )
    elif fused:
        raise ValueError("fused needs a branch of the boundary's own: give branch_channels")
    criterion = (RoIBoundaryLoss if local else HolisticBoundaryLoss)(**losses)
    if as_basis:
        return BoundaryBasis(
            basis_head=basis_head, branch=branch, criterion=criterion, detach=detach
        )
    return BoundarySupervision(basis_head=basis_head, branch=branch, criterion=criterion)


class OracleBoundary(nn.Module):
    """Adds the boundary of the true masks to the bases.

    Args:
        as_basis: it is also the last of the bases.
        two_sided: see ``boundary_target``.
        logit: of a cell on a boundary; all others have its negative.
    """

    def __init__(
        self, *, as_basis: bool = False, two_sided: bool = False, logit: float = 4.0
    ) -> None:
        super().__init__()
        self.as_basis = as_basis
        self.two_sided = two_sided
        self.logit = logit

    def forward(self, bases: Bases, truths: Sequence[Tensor]) -> Bases:
        """The bases with the boundary of each image's N×H×W true masks, in network pixels."""
        size = (bases.maps.shape[-2], bases.maps.shape[-1])
        targets = [
            boundary_target(masks, stride=bases.stride, size=size, two_sided=self.two_sided)
            for masks in truths
        ]
        boundary = self.logit * (2 * torch.stack(targets)[:, None] - 1).to(bases.maps)
        maps = torch.cat([bases.maps, boundary], dim=1) if self.as_basis else bases.maps
        return replace(bases, maps=maps, boundary_logits=boundary)
