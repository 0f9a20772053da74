"""The auxiliary task of CondInst's ``_sem`` models."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from b2inst.losses import focal_loss
from b2inst.modules.basis_head import conv_block
from b2inst.ops.distributed import even_share
from b2inst.structures import Features, Targets


class FocalSemanticHead(nn.Module):
    """Auxiliary semantic segmentation of things from the finest level, by the focal loss.

    Args:
        in_channels: of the features.
        num_classes: C; background is where no class is.
        stride: of the feature read.
    """

    def __init__(
        self, *, in_channels: int, num_classes: int, stride: int = 8, channels: int = 128
    ) -> None:
        super().__init__()
        self.stride = stride
        self.convs = nn.Sequential(
            conv_block(in_channels, channels), conv_block(channels, channels)
        )
        self.project = nn.Conv2d(channels, num_classes, 1)
        nn.init.constant_(self.project.bias, -math.log(99))  # type: ignore[arg-type]

    def loss(self, features: Features, targets: list[Targets]) -> dict[str, Tensor]:
        """Summed over all cells, divided by the number of cells that a mask covers."""
        logits = self.project(self.convs(features[self.stride])).float()
        classes = logits.shape[1]
        truth = logits.new_full((len(logits), *logits.shape[-2:]), classes, dtype=torch.int64)
        for canvas, target in zip(truth, targets, strict=True):
            sampled = self._class_map(target, background=classes)
            canvas[: sampled.shape[0], : sampled.shape[1]] = sampled
        positive = even_share((truth != classes).sum())
        loss = focal_loss(logits.permute(0, 2, 3, 1).flatten(0, 2), truth.flatten())
        return {"loss_semantic": loss / positive}

    def _class_map(self, target: Targets, background: int) -> Tensor:
        """The class of the smallest mask, of equal ones the first, that covers a cell's centre."""
        centre = self.stride // 2
        covered = target.masks[:, centre :: self.stride, centre :: self.stride].bool()
        if not len(target):
            return target.labels.new_full(covered.shape[1:], background)
        area = target.masks.sum((1, 2), dtype=torch.float32)[:, None, None]
        smallest, index = torch.where(covered, area, torch.inf).min(0)
        return torch.where(smallest.isinf(), background, target.labels[index])
