"""The boundary beside the bases, and as one of them: HBB (paper §4.1, Table 2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from b2inst.modules.basis_predictor import BasisPredictor
from b2inst.modules.boundary_loss import HolisticBoundaryLoss, RoIBoundaryLoss
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
