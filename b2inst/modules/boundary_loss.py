"""The losses that teach a map where boundaries are (paper §4.1; Table 2, local and global)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from b2inst.losses import crisp_boundary_loss, dice_loss
from b2inst.ops.boundary import boundary_target, laplacian_boundary
from b2inst.ops.distributed import mean_weight
from b2inst.ops.masks import crop_masks
from b2inst.structures import Targets


class HolisticBoundaryLoss(nn.Module):
    """Over the whole image, to the boundary of all its instances together.

    Args:
        bce_weight, dice_weight, crisp_weight: of the three losses (paper §4.1); 0 leaves one out.
        two_sided: the target marks the cells on both sides of a boundary.
    """

    def __init__(
        self,
        *,
        bce_weight: float = 1.0,
        dice_weight: float = 1.0,
        crisp_weight: float = 0.0,
        two_sided: bool = False,
    ) -> None:
        super().__init__()
        self.weights = {"bce": bce_weight, "dice": dice_weight, "crisp": crisp_weight}
        self.two_sided = two_sided

    def forward(self, logits: Tensor, stride: float, targets: list[Targets]) -> dict[str, Tensor]:
        """Losses by name.

        Args:
            logits: B×1×h×w boundary before the sigmoid.
            stride: input pixels per cell.
        """
        size = (logits.shape[-2], logits.shape[-1])
        truth = torch.stack(
            [
                boundary_target(t.masks, stride=stride, size=size, two_sided=self.two_sided)
                for t in targets
            ]
        )
        return _weighted(logits[:, 0].float(), truth, self.weights)


class RoIBoundaryLoss(nn.Module):
    """In the true box of each instance, to the boundary of that instance alone.

    As two-stage methods learn boundaries: what lies in a box besides its instance counts as
    background, neighbours' boundaries too.

    Args:
        roi_size: R the map and the masks are pooled to.
        bce_weight, dice_weight, crisp_weight: as in ``HolisticBoundaryLoss``; mean over instances.
    """

    def __init__(
        self,
        *,
        roi_size: int = 28,
        bce_weight: float = 1.0,
        dice_weight: float = 1.0,
        crisp_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.roi_size = roi_size
        self.weights = {"bce": bce_weight, "dice": dice_weight, "crisp": crisp_weight}

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
        return {k: weight * v for k, v in _weighted(pooled[:, 0], truth, self.weights).items()}


def _weighted(logits: Tensor, truth: Tensor, weights: Mapping[str, float]) -> dict[str, Tensor]:
    probabilities = logits.sigmoid()
    terms = {
        "bce": F.binary_cross_entropy_with_logits(logits, truth),
        "dice": dice_loss(probabilities, truth).mean(),
        "crisp": crisp_boundary_loss(probabilities, truth).mean(),
    }
    return {
        f"loss_boundary_{name}": weight * terms[name] for name, weight in weights.items() if weight
    }
