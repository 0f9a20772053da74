"""YOLACT's auxiliary semantic segmentation: a map for each class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from b2inst.structures import Features, Targets


class ClassMapHead(nn.Module):
    """A 1×1 convolution to a map of each class, in training only (YOLACT §4).

    Args:
        in_channels: of the features.
        num_classes: C.
        stride: of the feature read.
    """

    def __init__(self, *, in_channels: int, num_classes: int, stride: int = 8) -> None:
        super().__init__()
        self.stride = stride
        self.project = nn.Conv2d(in_channels, num_classes, 1)
        nn.init.xavier_uniform_(self.project.weight)
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]

    def loss(self, features: Features, targets: list[Targets]) -> dict[str, Tensor]:
        """Cross-entropy to the union of each class's masks: mean over cells, sum over classes."""
        logits = self.project(features[self.stride]).float()
        truth = torch.zeros_like(logits)
        for maps, target in zip(truth, targets, strict=True):
            if len(target):
                masks = target.masks[:, None].float()
                small = F.interpolate(masks, logits.shape[-2:], mode="bilinear")[:, 0] > 0.5
                maps.index_add_(0, target.labels, small.float()).clamp_(max=1)
        loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return {"loss_semantic": loss.mean((-2, -1)).sum() / len(logits)}
