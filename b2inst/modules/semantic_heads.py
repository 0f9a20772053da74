"""Semantic segmentation as an auxiliary task beside the bases, in training only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from b2inst.losses import focal_loss
from b2inst.modules.layers import conv_block, initialise
from b2inst.ops.distributed import even_share
from b2inst.structures import Features, Targets


class SemanticHead(nn.Module):
    """Two convolutions and a classifier of one level, with background (BlendMask §3.1)."""

    stride = 8

    def __init__(self, *, in_channels: int, num_classes: int, channels: int = 128) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            conv_block(in_channels, channels), conv_block(channels, channels)
        )
        self.project = nn.Conv2d(channels, num_classes + 1, 1)

    def forward(self, features: Features) -> Tensor:
        return self.project(self.convs(features[self.stride])).float()

    def loss(self, features: Features, targets: list[Targets]) -> dict[str, Tensor]:
        """Cross-entropy to the semantic map, sampled at every ``stride``-th pixel, times 0.3."""
        logits = self(features)
        maps = [t.semantic[:: self.stride, :: self.stride] for t in targets]
        return {"loss_semantic": 0.3 * F.cross_entropy(logits, padded(maps, logits, 0))}


class FocalSemanticHead(SemanticHead):
    """The same with the focal loss, of CondInst's ``_sem`` models; background is no class."""

    def __init__(self, *, num_classes: int, **options: int) -> None:
        super().__init__(num_classes=num_classes - 1, **options)
        nn.init.constant_(self.project.bias, -math.log(99))  # type: ignore[arg-type]

    def loss(self, features: Features, targets: list[Targets]) -> dict[str, Tensor]:
        """Sum over all cells, divided by the number of cells that a mask covers."""
        logits, classes = self(features), self.project.out_channels
        truth = padded([self._class_map(target) for target in targets], logits, classes)
        positive = even_share((truth != classes).sum())
        loss = focal_loss(logits.permute(0, 2, 3, 1).flatten(0, 2), truth.flatten())
        return {"loss_semantic": loss / positive}

    def _class_map(self, target: Targets) -> Tensor:
        """Class of the smallest mask that covers a cell's centre."""
        labels = F.pad(target.labels, (1, 0), value=self.project.out_channels)
        return labels[smallest_mask(target.masks, self.stride) + 1]


def padded(maps: Sequence[Tensor], batch: Tensor, value: int) -> Tensor:
    """Pad maps of classes, h×w, to the size of a batch of maps: B×H×W int64."""
    height, width = batch.shape[-2:]
    sides = [(0, width - m.shape[1], 0, height - m.shape[0]) for m in maps]
    return torch.stack([F.pad(*pair, value=value) for pair in zip(maps, sides, strict=True)]).long()


def smallest_mask(masks: Tensor, stride: int) -> Tensor:
    """Row of the smallest of N×H×W masks on each cell's centre; -1 if none.

    Of equal ones, it is the first.
    """
    covered = masks[:, stride // 2 :: stride, stride // 2 :: stride].bool()
    area = masks.sum((1, 2), dtype=torch.float32)[:, None, None]
    areas = torch.where(covered, area, torch.inf)
    return F.pad(areas, (0, 0, 0, 0, 1, 0), value=torch.inf).argmin(0) - 1


class ClassMapHead(nn.Module):
    """A 1×1 convolution to a map of each class (YOLACT §4).

    Args:
        cell: Input pixels per cell (default: the stride); see ``PrototypeHead``.
    """

    stride = 8

    def __init__(self, *, in_channels: int, num_classes: int, cell: float | None = None) -> None:
        super().__init__()
        self.cell = self.stride if cell is None else cell
        self.project = nn.Conv2d(in_channels, num_classes, 1)
        initialise(self.project, nn.init.xavier_uniform_)

    def loss(self, features: Features, targets: list[Targets]) -> dict[str, Tensor]:
        """Cross-entropy to the union of each class's masks: mean over cells, sum over classes."""
        logits = self.project(features[self.stride]).float()
        truth = torch.zeros_like(logits)
        height, width = (round(cells * self.cell) for cells in logits.shape[-2:])  # with padding
        for maps, target in zip(truth, targets, strict=True):
            if len(target):
                down, along = height - target.masks.shape[1], width - target.masks.shape[2]
                masks = F.pad(target.masks, (0, along, 0, down))[:, None].float()
                small = F.interpolate(masks, logits.shape[-2:], mode="bilinear")[:, 0] > 0.5
                maps.index_add_(0, target.labels, small.float()).clamp_(max=1)
        loss = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return {"loss_semantic": loss.mean((-2, -1)).sum() / len(logits)}
