"""The mask head of MaskLab (Chen et al., CVPR 2018)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import Conv2dNormActivation

from b2inst.modules.layers import NormLayer, RoIPooler
from b2inst.modules.mask_heads import class_mask_loss, sample_masks
from b2inst.modules.semantic_heads import padded, smallest_mask
from b2inst.ops.distributed import even_share
from b2inst.structures import Features, RoISamples, Targets, of_class


@dataclass
class MaskLabOutputs:
    """Maps of a batch, cropped to N boxes; masks follow once the classes are selected."""

    head: MaskLabHead
    maps: Tensor  #: B×(C+1+S·T)×h×w: classes with background first, T rings of S directions
    semantic: Tensor  #: N×(C+1)×R×R, the part of ``maps`` in the boxes
    direction: Tensor  #: N×T×R×R, assembled
    pooled: Tensor  #: N×channels×R×R, of the finest level

    def of_class(self, labels: Tensor) -> Tensor:
        """Mask logits of one class each, N×R×R."""
        return self.head.masks(self, labels)[1][:, 0]


class MaskLabHead(nn.Module):
    """Masks of the semantic logits and of the directions to the centre that are cropped to a box.

    Both are predicted for the whole image, from the finest level, and masks have twice the pooler's
    size. ``channels`` is the width before both logits; the refinement has half as many. The
    arguments are those of ``RoIMaskHead``.
    """

    sectors, rings = 8, 4  #: directions, and distances of each, that are distinguished

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        pooler: RoIPooler,
        channels: int = 128,
        norm: NormLayer | None = None,
    ) -> None:
        super().__init__()
        self.stride = pooler.strides[0]
        self.crop = RoIPooler(strides=(self.stride,), size=2 * pooler.size, samples=pooler.samples)
        self.num_classes = num_classes
        self.convs = nn.Sequential(
            *(Conv2dNormActivation(w, channels, norm_layer=norm) for w in (in_channels, channels))
        )
        self.logits = nn.Conv2d(channels, num_classes + 1 + self.sectors * self.rings, 1)
        self.fine = nn.Conv2d(in_channels, channels // 2, 1)
        self.coarse = nn.Conv2d(1 + self.rings, 1, 1)
        widths = channels // 2 + 1, channels // 2, channels // 2
        self.refine = nn.Sequential(
            *(Conv2dNormActivation(w, channels // 2, 5, norm_layer=norm) for w in widths),
            nn.Conv2d(channels // 2, 1, 1),
        )

    def forward(self, features: Features, boxes: list[Tensor]) -> MaskLabOutputs:
        """Crop what masks are made from to N boxes, given per image in network-input pixels."""
        finest = features[self.stride]
        maps = self.logits(self.convs(finest)).float()
        cropped = self.crop({self.stride: maps}, boxes)
        semantic, direction = cropped.tensor_split([self.num_classes + 1], dim=1)
        assembled = assemble_directions(direction, torch.cat(boxes), self.sectors)
        pooled = self.crop({self.stride: self.fine(finest)}, boxes)
        return MaskLabOutputs(self, maps, semantic, assembled, pooled)

    def masks(self, outputs: MaskLabOutputs, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the masks of one class each, coarse and refined, N×1×R×R each."""
        own = of_class(outputs.semantic, labels + 1)[:, None]
        coarse = self.coarse(torch.cat([own, outputs.direction], dim=1))
        refined = self.refine(torch.cat([coarse.to(outputs.pooled), outputs.pooled], dim=1))
        return coarse.float(), refined.float()

    def loss(
        self, outputs: MaskLabOutputs, samples: list[RoISamples], targets: list[Targets]
    ) -> dict[str, Tensor]:
        """Cross-entropy of the masks, coarse and refined, of the classes and of the directions."""
        labels = torch.cat([own.labels for own in samples])
        coarse, refined = self.masks(outputs, labels)
        any_class = torch.zeros_like(labels)
        _, truths = sample_masks(refined, samples, targets)
        own = zip(*map(self._pixel_targets, targets), strict=True)
        pairs = zip(own, (0, -1), strict=True)
        classes, directions = (padded(maps, outputs.maps, nothing) for maps, nothing in pairs)
        semantic, direction = outputs.maps.tensor_split([self.num_classes + 1], dim=1)
        error = F.cross_entropy(direction, directions, ignore_index=-1, reduction="sum")
        return {
            "loss_mask": class_mask_loss(refined, any_class, truths),
            "loss_coarse_mask": class_mask_loss(coarse, any_class, truths),
            "loss_semantic": F.cross_entropy(semantic, classes),
            "loss_direction": error / even_share((directions >= 0).sum()),
        }

    def _pixel_targets(self, target: Targets) -> tuple[Tensor, Tensor]:
        """Class and direction of cells, 0 and -1 for background; of the smallest object there."""
        index = smallest_mask(target.masks, self.stride)
        if not len(target):
            return index + 1, index
        boxes = target.boxes[index]
        rows, columns = (
            torch.arange(cells, device=index.device) * self.stride + self.stride // 2 + 0.5
            for cells in index.shape
        )
        middle, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2
        x, y = middle[..., 0] - columns, middle[..., 1] - rows[:, None]
        distance = torch.hypot(x, y) / torch.hypot(*half.unbind(-1))
        ring = (distance * self.rings).long().clamp(max=self.rings - 1)
        direction = ring * self.sectors + sectors_of(x, y, self.sectors)
        classes = target.labels[index] + 1
        return classes.masked_fill(index < 0, 0), direction.masked_fill(index < 0, -1)


def sectors_of(x: Tensor, y: Tensor, sectors: int) -> Tensor:
    """Which of some equal sectors a direction is in: clockwise, the first one's middle is right."""
    turn = torch.atan2(y, x) / (2 * math.pi)
    return (turn * sectors).round().long() % sectors


def assemble_directions(maps: Tensor, boxes: Tensor, sectors: int) -> Tensor:
    """Read each cell of a box from the maps of the direction in which the box's centre is.

    From N×(T·sectors)×R×R over N boxes, a ring's sectors being neighbours, to N×T×R×R.
    """
    size = maps.shape[-1]
    steps = 0.5 - (torch.arange(size, device=boxes.device) + 0.5) / size
    width, height = (boxes[:, 2:] - boxes[:, :2])[..., None, None].unbind(1)
    x, y = torch.broadcast_tensors(width * steps, height * steps[:, None])
    chosen = sectors_of(x, y, sectors)[:, None, None]
    return maps.unflatten(1, (-1, sectors)).take_along_dim(chosen, 2)[:, :, 0]
