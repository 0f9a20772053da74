"""Losses that train a map to show boundaries (paper §4.1; Table 2, local and global)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from b2inst.losses import crisp_boundary_loss, dice_loss
from b2inst.ops.boundary import boundary_target, laplacian_boundary
from b2inst.ops.distributed import mean_weight
from b2inst.ops.masks import crop_masks
from b2inst.structures import Targets


class _BoundaryLoss(nn.Module):
    """Weighted sum of the paper's losses.

    Args:
        bce_weight, dice_weight, crisp_weight: of the three losses (paper §4.1); 0 leaves one out.
    """

    def __init__(
        self, *, bce_weight: float = 1.0, dice_weight: float = 1.0, crisp_weight: float = 0.0
    ) -> None:
        super().__init__()
        self.weights = {"bce": bce_weight, "dice": dice_weight, "crisp": crisp_weight}

    def _losses(self, logits: Tensor, truth: Tensor) -> dict[str, Tensor]:
        probabilities = logits.sigmoid()
        losses = {
            "bce": F.binary_cross_entropy_with_logits(logits, truth),
            "dice": dice_loss(probabilities, truth).mean(),
            "crisp": crisp_boundary_loss(probabilities, truth).mean(),
        }
        return {
            f"loss_boundary_{name}": weight * losses[name]
            for name, weight in self.weights.items()
            if weight
        }


class HolisticBoundaryLoss(_BoundaryLoss):
    """Over the whole image, to the boundary of all its instances together.

    Args:
        two_sided: the target marks the cells on both sides of a boundary.
        weights: see ``_BoundaryLoss``.
    """

    def __init__(self, *, two_sided: bool = False, **weights: float) -> None:
        super().__init__(**weights)
        self.two_sided = two_sided

    def forward(self, logits: Tensor, stride: float, targets: list[Targets]) -> dict[str, Tensor]:
        """Losses by name.

        Args:
            logits: B×1×h×w boundary before the sigmoid.
            stride: input pixels per cell.
            targets: B.
        """
        size = (logits.shape[-2], logits.shape[-1])
        truth = [
            boundary_target(t.masks, stride=stride, size=size, two_sided=self.two_sided)
            for t in targets
        ]
        return self._losses(logits[:, 0].float(), torch.stack(truth))


class RoIBoundaryLoss(_BoundaryLoss):
    """In the true box of each instance, to the boundary of that instance alone.

    This is how two-stage methods learn boundaries: everything else in the box is background,
    neighbours' boundaries too.

    Args:
        roi_size: R that the map and the masks are pooled to.
        weights: see ``_BoundaryLoss``; losses are means over instances.
    """

    def __init__(self, *, roi_size: int = 28, **weights: float) -> None:
        super().__init__(**weights)
        self.roi_size = roi_size

    def forward(self, logits: Tensor, stride: float, targets: list[Targets]) -> dict[str, Tensor]:
        """As ``HolisticBoundaryLoss``; without instances the losses are 0."""
        boxes = [t.boxes for t in targets]
        pooled = roi_align(
            logits.float(), boxes, self.roi_size, 1 / stride, sampling_ratio=2, aligned=True
        )
        masks = torch.cat([crop_masks(t.masks, t.boxes, self.roi_size) for t in targets])
        truth = laplacian_boundary(masks, frame="constant").float()
        weight = mean_weight(truth.new_tensor(len(truth)))
        if not len(truth):  # a mean over nothing; one empty box instead, without weight
            pooled = 0 * logits[:1].float()
            truth = pooled[:, 0].detach()
        return {name: weight * loss for name, loss in self._losses(pooled[:, 0], truth).items()}
