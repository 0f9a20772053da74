"""The heads of TensorMask (Chen et al., ICCV 2019)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.ops import batched_nms

from b2inst.losses import focal_loss_star
from b2inst.modules.interfaces import InstanceHead
from b2inst.modules.layers import NormLayer, by_position, initialise
from b2inst.modules.windows import WindowGrid, window_boxes
from b2inst.ops.align2nat import natural_masks
from b2inst.ops.distributed import even_share
from b2inst.ops.masks import crop_masks
from b2inst.structures import Detections, Features, Positives, Targets, WindowMasks

_NORMAL = partial(nn.init.normal_, std=0.01)


@dataclass
class WindowOutputs:
    """Predictions for the S windows of each image."""

    class_logits: Tensor  #: B×S×C
    offsets: Tensor  #: B×S×4, of boxes from their windows
    grid: WindowGrid


class WindowHead(InstanceHead):
    """Classes and boxes of windows, by two towers shared by the levels.

    The four coefficients of a window say where it is: level, index of its size, row and column.

    Args:
        in_channels: Of the features.
        num_classes: C.
        strides: Of the levels.
        sizes: Sides of the windows of a cell, in cells of its level.
        class_channels: Width of the classification tower.
        box_channels: Width of the box tower.
        num_convs: 3×3 convolutions in each tower.
        norm: Builds a norm after each of them; published without.
    """

    outputs = WindowOutputs
    pre_nms = 1000  #: candidates times levels, or ten times ``max_detections`` if more
    nms_iou = 0.5
    coder = BoxCoder((1.5, 1.5, 0.75, 0.75))

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        strides: Sequence[int],
        sizes: Sequence[int],
        class_channels: int = 256,
        box_channels: int = 128,
        num_convs: int = 4,
        norm: NormLayer | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.strides, self.sizes = tuple(strides), tuple(sizes)
        self.class_tower = _tower(in_channels, class_channels, num_convs, norm)
        self.box_tower = _tower(in_channels, box_channels, num_convs, norm)
        each = len(sizes)
        self.class_logits = nn.Conv2d(class_channels, each * num_classes, 3, padding=1)
        self.offsets = nn.Conv2d(box_channels, each * 4, 3, padding=1)
        initialise(self, _NORMAL)
        nn.init.constant_(self.class_logits.bias, -math.log(99))  # type: ignore[arg-type]

    def forward(self, features: Features) -> WindowOutputs:
        """Predictions for every window, of features at the head's strides."""
        levels = [features[stride] for stride in self.strides]
        shapes = tuple((level.shape[2], level.shape[3]) for level in levels)
        return WindowOutputs(
            by_position((self.class_logits(self.class_tower(x)) for x in levels), len(self.sizes)),
            by_position((self.offsets(self.box_tower(x)) for x in levels), len(self.sizes)),
            WindowGrid(shapes, self.strides, self.sizes),
        )

    def loss(
        self, outputs: WindowOutputs, targets: list[Targets]
    ) -> tuple[dict[str, Tensor], Positives]:
        """Losses of classes and boxes, and the windows whose masks are to be trained."""
        labels = torch.full_like(outputs.class_logits[..., 0], self.num_classes, dtype=torch.int64)
        assigned = [outputs.grid.assign(target.boxes) for target in targets]
        image = torch.cat([torch.full_like(w, i) for i, (w, _) in enumerate(assigned)])
        window = torch.cat([w for w, _ in assigned])
        first = torch.tensor([0] + [len(t) for t in targets], device=image.device).cumsum(0)
        index = torch.cat([row for _, row in assigned]) + first[image]
        labels[image, window] = torch.cat([t.labels for t in targets])[index]
        places = outputs.grid.places(window)
        boxes = torch.cat([t.boxes for t in targets])[index]
        moves = self.coder.encode_single(boxes, window_boxes(places, self.strides, self.sizes))
        count = even_share(moves.new_tensor(len(moves)))
        class_loss = focal_loss_star(outputs.class_logits.flatten(0, 1), labels.flatten())
        box_loss = F.l1_loss(outputs.offsets[image, window], moves, reduction="sum")
        positives = Positives(
            image_index=image,
            target_index=index,
            coefficients=places.float(),
            weights=torch.ones_like(moves[:, 0]),
            weight_sum=count,
        )
        return {"loss_class": class_loss / count, "loss_box": box_loss / count}, positives

    def detect(self, outputs: WindowOutputs) -> list[Detections]:
        """Detections of each image after non-maximum suppression, not clipped to it."""
        detections = []
        limit = max(self.pre_nms, 10 * self.max_detections) * len(self.strides)
        for logits, offsets in zip(outputs.class_logits, outputs.offsets, strict=True):
            probability = logits.sigmoid().flatten()
            chosen = (probability > self.score_threshold).nonzero()[:, 0]
            if len(chosen) > limit:
                chosen = chosen[probability[chosen].topk(limit).indices]
            scores, labels = probability[chosen], chosen % self.num_classes
            window = chosen // self.num_classes
            places = outputs.grid.places(window)
            windows = window_boxes(places, self.strides, self.sizes)
            boxes = self.coder.decode_single(offsets[window], windows)
            keep = batched_nms(boxes, scores, labels, self.nms_iou)[: self.max_detections]
            detections.append(
                Detections(boxes[keep], scores[keep], labels[keep], places[keep].float())
            )
        return detections


@dataclass
class WindowLogits:
    """Masks of N windows; those of windows of the same size are together."""

    groups: list[tuple[Tensor, Tensor]]  #: rows of n windows, and their n×V×V mask logits
    windows: Tensor  #: N×4

    def masks(self) -> WindowMasks:
        """The masks in the order of the windows."""
        probabilities = [self.windows[:0]] * len(self.windows)
        for rows, logits in self.groups:
            for row, mask in zip(rows.tolist(), logits.sigmoid(), strict=True):
                probabilities[row] = mask
        return WindowMasks(probabilities, self.windows)


class AlignedMask(nn.Linear):
    """Aligned masks by a 1×1 convolution, of which only what natural masks need is computed.

    Args:
        channels: Of the maps.
        size: V, side of the masks.
    """

    def __init__(self, channels: int, size: int) -> None:
        super().__init__(channels, size**2)
        self.size = size

    def forward(  # type: ignore[override]
        self, maps: Tensor, factor: int, image: Tensor, rows: Tensor, columns: Tensor
    ) -> Tensor:
        """N×λV×λV natural masks; see ``natural_masks``."""
        weight, bias = (p.unflatten(0, (self.size, self.size)) for p in (self.weight, self.bias))
        return natural_masks(maps, weight, bias, factor, image, rows, columns)


class TensorMaskHead(nn.Module):
    """Masks of windows by a tensor bipyramid: windows of twice the side have as fine masks.

    The features of a level are upsampled to the cells of masks, fused with the finest level's, and
    give aligned masks, which ``swap_align2nat`` converts. Only levels, and masks, of the windows
    that are asked for are computed.

    Args:
        in_channels: Of the features.
        strides: Of the levels.
        sizes: Sides of the windows of a cell, in cells of its level, and so of aligned masks.
        mask_stride: Pixels per cell of the masks of any level.
        channels: Width of the tower.
        num_convs: 3×3 convolutions of the tower.
        norm: Builds a norm after each of them; published without.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        strides: Sequence[int],
        sizes: Sequence[int],
        mask_stride: int = 4,
        channels: int = 128,
        num_convs: int = 4,
        norm: NormLayer | None = None,
    ) -> None:
        super().__init__()
        self.strides, self.sizes = tuple(strides), tuple(sizes)
        self.mask_stride = mask_stride
        self.tower = _tower(in_channels, channels, num_convs, norm)
        self.fuse = _tower(channels, channels, 1, norm)
        self.masks = nn.ModuleList(AlignedMask(channels, size) for size in sizes)
        initialise(self, _NORMAL)

    def forward(self, features: Features, image: Tensor, places: Tensor) -> WindowLogits:
        """Masks of N windows.

        Args:
            features: At the head's strides.
            image: N int64, index in the batch.
            places: N×4, level, index of the size, row and column of each window.
        """
        places = places.long()
        levels, sizes, rows, columns = places.unbind(1)
        finest = self._upsampled(features[self.strides[0]], self.strides[0])
        height, width = finest.shape[2:]
        groups = []
        for level, stride in enumerate(self.strides):
            own = (levels == level).nonzero()[:, 0]
            if level and not len(own):  # the first level is computed so that all weights are used
                continue
            images, batch = image[own].unique(return_inverse=True)
            maps = fine = finest[images]
            if level:
                maps = self._upsampled(features[stride][images], stride)[..., :height, :width]
            # A window's cells are around pixel stride·x: some may lie half beyond the last ones.
            maps = F.pad(self.fuse(fine + maps), (0, 1, 0, 1), mode="replicate")
            for size, mask in enumerate(self.masks):
                of_size = sizes[own] == size
                if level and not of_size.any():
                    continue
                index = own[of_size]
                at = batch[of_size], rows[index], columns[index]
                groups.append((index, mask(maps, stride // self.mask_stride, *at)))
        return WindowLogits(groups, window_boxes(places, self.strides, self.sizes))

    def _upsampled(self, level: Tensor, stride: int) -> Tensor:
        maps, factor = self.tower(level), stride // self.mask_stride
        if factor == 1:
            return maps
        return F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=False)

    def loss(
        self, outputs: WindowLogits, positives: Positives, targets: list[Targets]
    ) -> dict[str, Tensor]:
        """Cross-entropy, a mean over the cells of each mask, with more weight on objects' cells."""
        first = [0, *accumulate(len(target) for target in targets)]
        total = outputs.windows.new_zeros(())
        for rows, logits in outputs.groups:
            size, truths = logits.shape[-1], []
            for i, target in enumerate(targets):
                own = rows[positives.image_index[rows] == i]
                index = positives.target_index[own] - first[i]
                truths.append(crop_masks(target.masks, outputs.windows[own], size, index=index))
            loss = F.binary_cross_entropy_with_logits(
                logits, torch.cat(truths), pos_weight=logits.new_tensor(1.5), reduction="sum"
            )
            total = total + loss / size**2
        return {"loss_mask": 2 * total / positives.weight_sum}


def _tower(
    in_channels: int, channels: int, num_convs: int, norm: NormLayer | None
) -> MaskRCNNHeads:
    return MaskRCNNHeads(in_channels, [channels] * num_convs, dilation=1, norm_layer=norm)
