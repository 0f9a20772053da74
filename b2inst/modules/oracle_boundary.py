"""The true boundary in place of a predicted one: the upper bound of a prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from b2inst.ops.boundary import boundary_target
from b2inst.structures import Bases


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
