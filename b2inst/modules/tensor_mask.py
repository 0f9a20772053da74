"""The parts of TensorMask (Chen et al., ICCV 2019)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.ops import batched_nms

from b2inst.losses import focal_loss_star
from b2inst.modules.layers import NormLayer, by_position, initialise
from b2inst.ops.align2nat import natural_masks
from b2inst.ops.distributed import even_share
from b2inst.ops.masks import crop_masks
from b2inst.structures import Detections, Features, ImageBatch, RoISamples, Targets

_NORMAL = partial(nn.init.normal_, std=0.01)
_tower = partial(MaskRCNNHeads, dilation=1)  # 3×3 convolutions, with a ReLU and maybe a norm


class WindowDetector(nn.Module):
    """Classes and boxes of windows, by two towers that all levels share.

    See ``FasterRCNN`` for its methods. The coefficients of a detection are its window, masks are
    trained in windows too, and boxes are not clipped.

    Args:
        sizes: Sides of the windows of a cell, in cells of its level.
        class_channels, box_channels: Widths of the towers, of ``num_convs`` convolutions each.
        norm: Builds a norm after each of these; published without.
    """

    score_threshold = 0.05
    max_detections = 100  #: per image
    pre_nms = 1000  #: candidates, or ten times ``max_detections``, times the number of levels
    nms_iou = 0.5
    coder = BoxCoder((1.5, 1.5, 0.75, 0.75))

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        sizes: Sequence[int],
        class_channels: int = 256,
        box_channels: int = 128,
        num_convs: int = 4,
        norm: NormLayer | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.sizes = tuple(sizes)
        self.class_tower = _tower(in_channels, [class_channels] * num_convs, norm_layer=norm)
        self.box_tower = _tower(in_channels, [box_channels] * num_convs, norm_layer=norm)
        self.class_logits = nn.Conv2d(class_channels, len(sizes) * num_classes, 3, padding=1)
        self.offsets = nn.Conv2d(box_channels, len(sizes) * 4, 3, padding=1)
        initialise(self, _NORMAL)
        nn.init.constant_(self.class_logits.bias, -math.log(99))  # type: ignore[arg-type]

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """Class logits B×S×C and box offsets B×S×4 of all windows."""
        class_maps = [self.class_logits(self.class_tower(x)) for x in features.values()]
        box_maps = [self.offsets(self.box_tower(x)) for x in features.values()]
        return by_position(class_maps, len(self.sizes)), by_position(box_maps, len(self.sizes))

    def loss(
        self, features: Features, batch: ImageBatch, targets: list[Targets]
    ) -> tuple[dict[str, Tensor], list[RoISamples]]:
        logits, offsets = self(features)
        windows, strides = all_windows(features, self.sizes)
        labels = torch.full_like(logits[..., 0], self.num_classes, dtype=torch.int64)
        box_loss, samples = offsets.new_zeros(()), []
        for target, own, found in zip(targets, labels, offsets, strict=True):
            positive, index = assign(target.boxes, windows, strides)
            own[positive] = target.labels[index]
            samples.append(RoISamples(windows[positive], target.labels[index], index))
            moves = self.coder.encode_single(target.boxes[index], windows[positive])
            box_loss = box_loss + F.l1_loss(found[positive], moves, reduction="sum")
        count = even_share(logits.new_tensor(sum(map(len, samples))))
        class_loss = focal_loss_star(logits.flatten(0, 1), labels.flatten())
        return {"loss_class": class_loss / count, "loss_box": box_loss / count}, samples

    def detect(self, features: Features, batch: ImageBatch) -> list[Detections]:
        windows, _ = all_windows(features, self.sizes)
        limit = max(self.pre_nms, 10 * self.max_detections) * len(features)
        detections = []
        for logits, offsets in zip(*self(features), strict=True):
            probability = logits.sigmoid().flatten()
            chosen = (probability > self.score_threshold).nonzero()[:, 0]
            if len(chosen) > limit:
                chosen = chosen[probability[chosen].topk(limit).indices]
            index, labels = chosen // self.num_classes, chosen % self.num_classes
            boxes = self.coder.decode_single(offsets[index], windows[index])
            found = Detections(boxes, probability[chosen], labels, windows[index])
            keep = batched_nms(boxes, found.scores, labels, self.nms_iou)
            detections.append(found[keep[: self.max_detections]])
        return detections


class TensorMaskHead(nn.Module):
    """Masks of windows by a tensor bipyramid: windows of twice the side have as fine masks.

    The features of a level are upsampled to the cells of masks, fused with the finest level's, and
    give aligned masks by a 1×1 convolution, which ``natural_masks`` converts. Only what the
    windows that are asked for need is computed. Other arguments are ``WindowDetector``'s.

    Args:
        sizes: Sides of the windows of a cell, in cells of its level, and so of aligned masks.
        mask_stride: Pixels per cell of masks, at any level.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        sizes: Sequence[int],
        mask_stride: int = 4,
        channels: int = 128,
        num_convs: int = 4,
        norm: NormLayer | None = None,
    ) -> None:
        super().__init__()
        self.sizes, self.mask_stride = tuple(sizes), mask_stride
        self.tower = _tower(in_channels, [channels] * num_convs, norm_layer=norm)
        self.fuse = _tower(channels, [channels], norm_layer=norm)
        self.aligned = nn.ModuleList(nn.Linear(channels, size**2) for size in sizes)
        initialise(self, _NORMAL)

    def forward(self, features: Features, windows: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Masks of windows, given per image: those of the same size as rows and logits n×V×V."""
        boxes = torch.cat(windows)
        image = torch.cat([box.new_full((len(box),), i).long() for i, box in enumerate(windows)])
        sides, centres = boxes[:, 2] - boxes[:, 0], (boxes[:, :2] + boxes[:, 2:]) / 2
        first, *_ = features
        finest = self._upsampled(features[first], first)
        groups = []
        for stride, level in features.items():
            of_sizes = [(sides == stride * size).nonzero()[:, 0] for size in self.sizes]
            images = image[torch.cat(of_sizes)].unique()
            if stride > first and not len(images):  # the first is computed to use all weights
                continue
            maps = fine = finest[images]
            if stride > first:
                maps = self._upsampled(level[images], stride)[..., : fine.shape[2], : fine.shape[3]]
            # A window's cells are around pixel stride·x: some may lie half beyond the last ones.
            maps = F.pad(self.fuse(fine + maps), (0, 1, 0, 1), mode="replicate")
            factor = stride // self.mask_stride
            for size, own, linear in zip(self.sizes, of_sizes, self.aligned, strict=True):
                if stride > first and not len(own):
                    continue
                weight, bias = (p.unflatten(0, (size, size)) for p in linear.parameters())
                cells = (centres[own] / stride).long()  # x and y
                places = torch.stack([torch.searchsorted(images, image[own]), *cells.T.flip(0)], 1)
                groups.append((own, natural_masks(maps, weight, bias, factor, places)))
        return groups

    def _upsampled(self, level: Tensor, stride: int) -> Tensor:
        maps, factor = self.tower(level), stride // self.mask_stride
        return maps if factor == 1 else F.interpolate(maps, scale_factor=factor, mode="bilinear")

    def loss(
        self, groups: list[tuple[Tensor, Tensor]], samples: list[RoISamples], targets: list[Targets]
    ) -> dict[str, Tensor]:
        """Cross-entropy, a mean over the cells of each mask, with more weight on objects' cells."""
        total: Any = 0
        bounds = list(pairwise(accumulate(map(len, samples), initial=0)))
        for rows, logits in groups:
            size, truths = logits.shape[-1], []
            for (start, stop), own, target in zip(bounds, samples, targets, strict=True):
                own = own[rows[(rows >= start) & (rows < stop)] - start]
                truths.append(crop_masks(target.masks, own.boxes, size, index=own.target_index))
            loss = F.binary_cross_entropy_with_logits(
                logits, torch.cat(truths), pos_weight=logits.new_tensor(1.5), reduction="sum"
            )
            total = total + loss / size**2
        count = even_share(total.new_tensor(sum(map(len, samples))))
        return {"loss_mask": 2 * total / count}


def all_windows(features: Features, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """List the windows of an image: boxes S×4, and the stride of each one's level, S float32.

    Levels are in order, cells row by row, then sizes, in cells of the level, ascending. The cell in
    row y and column x is taken to be at pixel (stride·x, stride·y), not at the centre of the pixels
    that it covers.
    """
    boxes, of_level = [], []
    for stride, maps in features.items():
        cells = [torch.arange(float(count)) for count in maps.shape[2:]]
        y, x, half = (torch.cartesian_prod(*cells, torch.tensor(sizes) / 2) * stride).unbind(1)
        boxes.append(torch.stack([x - half, y - half, x + half, y + half], dim=1))
        of_level.append(torch.full_like(x, stride))
    return torch.cat(boxes).to(maps.device), torch.cat(of_level).to(maps.device)


def assign(boxes: Tensor, windows: Tensor, strides: Tensor) -> tuple[Tensor, Tensor]:
    """Find which of ``all_windows`` are positive for exactly one of the objects with N×4 boxes.

    A window is positive for an object if it contains its box, their centres are at most a stride
    apart, and its side is at most twice the longer side of the box (TensorMask, label assignment).
    Here, sides of windows count as a stride less, and the smallest windows are small enough for any
    object. Returns the index of each such window and of its object, P int64 each.
    """
    centres = (windows[:, :2] + windows[:, 2:]) / 2
    sides = windows[:, 2] - windows[:, 0] - strides
    objects = torch.zeros_like(sides, dtype=torch.int64)
    found = torch.zeros_like(objects)
    for i, box in enumerate(boxes):  # all pairs at once would take much memory
        inside = (windows[:, :2] <= box[:2]) & (windows[:, 2:] >= box[2:])
        near = (centres - (box[:2] + box[2:]) / 2).square().sum(1) <= strides.square()
        fits = sides <= (2 * (box[2:] - box[:2]).amax()).clamp(min=sides[0])
        positive = inside.all(1) & near & fits
        objects += i * positive
        found += positive
    chosen = (found == 1).nonzero()[:, 0]
    return chosen, objects[chosen]
