"""The true boundary where a predicted one would be: what a perfect prediction were worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from b2inst.ops.boundary import boundary_target
from b2inst.structures import Bases


class OracleBoundary(nn.Module):
    """Puts the boundary of the true masks beside the bases; a control, not a model to use.

    Args:
        as_basis: it also joins the bases, as the last of them.
        two_sided: as in ``boundary_target``.
        logit: of a cell on a boundary; of all others its negative.
    """

    def __init__(
        self, *, as_basis: bool = False, two_sided: bool = False, logit: float = 4.0
    ) -> None:
        super().__init__()
        self.as_basis = as_basis
        self.two_sided = two_sided
        self.logit = logit

    def forward(self, bases: Bases, truths: Sequence[Tensor]) -> Bases:
        """The bases with the boundary.

        Args:
            truths: for each image of the batch N×H×W masks, in network-input pixels.
        """
        size = (bases.maps.shape[-2], bases.maps.shape[-1])
        targets = [
            boundary_target(masks, stride=bases.stride, size=size, two_sided=self.two_sided)
            for masks in truths
        ]
        boundary = self.logit * (2 * torch.stack(targets)[:, None] - 1).to(bases.maps)
        maps = torch.cat([bases.maps, boundary], dim=1) if self.as_basis else bases.maps
        return replace(bases, maps=maps, boundary_logits=boundary)
