"""The holistic boundary basis, HBB (paper §4.1)."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from b2inst.losses import crisp_boundary_loss, dice_loss
from b2inst.modules.basis_head import BasisHead
from b2inst.ops.boundary import boundary_target
from b2inst.structures import Bases, Features, Targets


class BoundaryBasis(nn.Module):
    """A basis head whose last basis is supervised with the boundary of all instances.

    This is design (e) of Table 2: single-scale features, global supervision, and the prediction
    used as one more basis.

    Args:
        basis_head: predicts the bases. Without ``branch`` its last map is the boundary.
        branch: a basis head of one map, the boundary's own; then ``basis_head`` predicts the
            others only.
        detach: the mask loss does not bend the boundary through its use as a basis.
        bce_weight, dice_weight, crisp_weight: of the three losses (paper §4.1); 0 leaves one out.
    """

    def __init__(
        self,
        *,
        basis_head: BasisHead,
        branch: BasisHead | None = None,
        detach: bool = True,
        bce_weight: float = 1.0,
        dice_weight: float = 1.0,
        crisp_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.basis_head = basis_head
        self.branch = branch
        self.detach = detach
        self.weights = {"bce": bce_weight, "dice": dice_weight, "crisp": crisp_weight}

    @property
    def num_bases(self) -> int:
        return self.basis_head.num_bases + (0 if self.branch is None else self.branch.num_bases)

    def forward(self, features: Features) -> Bases:
        bases = self.basis_head(features)
        if self.branch is None:
            maps, logits = bases.maps[:, :-1], bases.maps[:, -1:]
        else:
            maps, logits = bases.maps, self.branch(features).maps
        used = logits.detach() if self.detach else logits
        return replace(bases, maps=torch.cat([maps, used], dim=1), boundary_logits=logits)

    def loss(self, features: Features, bases: Bases, targets: list[Targets]) -> dict[str, Tensor]:
        """The basis head's own losses and those of the boundary, over the whole image."""
        losses = self.basis_head.loss(features, bases, targets)
        logits = bases.boundary_logits
        assert logits is not None
        truth = torch.stack(
            [
                boundary_target(
                    t.masks, stride=bases.stride, size=(logits.shape[-2], logits.shape[-1])
                )
                for t in targets
            ]
        )
        logits = logits[:, 0].float()
        probabilities = logits.sigmoid()
        terms = {
            "bce": F.binary_cross_entropy_with_logits(logits, truth),
            "dice": dice_loss(probabilities, truth).mean(),
            "crisp": crisp_boundary_loss(probabilities, truth).mean(),
        }
        for name, weight in self.weights.items():
            if weight:
                losses[f"loss_boundary_{name}"] = weight * terms[name]
        return losses
