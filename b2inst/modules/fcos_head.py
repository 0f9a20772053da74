"""The instance heads of BlendMask and CondInst: FCOS with coefficients at every position."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms

from b2inst.losses import focal_loss, ltrb_giou_loss
from b2inst.modules.fcos_targets import assign, box_centres, locations, mask_centroids, size_ranges
from b2inst.modules.interfaces import InstanceHead
from b2inst.modules.layers import PositionConv, by_position, conv_tower, initialise
from b2inst.ops.distributed import even_share
from b2inst.structures import Detections, Features, Positives, Targets

_NORMAL = partial(nn.init.normal_, std=0.01)


@dataclass
class DenseOutputs:
    """Predictions at the S positions of all levels; levels in order, row by row."""

    class_logits: Tensor  #: B×S×C
    distances: Tensor  #: B×S×4, left top right bottom >= 0 in units of the level's stride
    centerness_logits: Tensor  #: B×S
    towers: list[Tensor]  #: per level B×channels×h×w, which the coefficients are predicted from


class FCOSHead(InstanceHead):
    """Classification, box and centerness towers shared by the levels.

    Args:
        num_coefficients: D per position; 0 leaves them out.
        object_size: Largest box distance that a level is for, in its strides.
        num_convs, num_shared_convs: 3×3 convolutions in each of the two towers, and before both.
    """

    outputs = DenseOutputs
    radius = 1.5  #: of centre sampling, in strides
    centres: Callable[[Targets], Tensor] = staticmethod(box_centres)  #: see ``assign``
    level_scale: type[nn.Module] = nn.Identity  #: of the box distances of each level
    pre_nms = 1000  #: candidates per level, or ten times ``max_detections`` if more
    nms_iou = 0.6

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        num_coefficients: int,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        object_size: int = 8,
        num_convs: int = 4,
        num_shared_convs: int = 0,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.strides = tuple(strides)
        self.sizes_of_interest = size_ranges(strides, object_size)
        self.shared_tower = conv_tower(in_channels, [in_channels] * num_shared_convs)
        self.class_tower = conv_tower(in_channels, [in_channels] * num_convs)
        self.box_tower = conv_tower(in_channels, [in_channels] * num_convs)
        self.class_logits = nn.Conv2d(in_channels, num_classes, 3, padding=1)
        self.distances = nn.Conv2d(in_channels, 4, 3, padding=1)
        self.centerness = nn.Conv2d(in_channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(self.level_scale() for _ in strides)
        initialise(self, _NORMAL)
        nn.init.constant_(self.class_logits.bias, -math.log(99))  # type: ignore[arg-type]
        # Last, so that the other weights do not depend on the number of coefficients.
        self.coefficients = None
        if num_coefficients:
            self.coefficients = PositionConv(in_channels, num_coefficients, 3, padding=1)
            initialise(self.coefficients, _NORMAL)

    def forward(self, features: Features) -> DenseOutputs:
        shared = [self.shared_tower(features[stride]) for stride in self.strides]
        class_towers = [self.class_tower(x) for x in shared]
        towers = [self.box_tower(x) for x in shared]
        pairs = zip(self.scales, towers, strict=True)
        return DenseOutputs(
            by_position(map(self.class_logits, class_towers)),
            by_position(F.relu(scale(self.distances(tower))) for scale, tower in pairs),
            by_position(map(self.centerness, towers)).squeeze(2),
            towers,
        )

    def coefficients_at(self, outputs: DenseOutputs, image: Tensor, position: Tensor) -> Tensor:
        """Coefficients at P positions, given image and flat position, both P: P×D."""
        if self.coefficients is None:
            return outputs.distances.new_zeros(len(position), 0)
        return self.coefficients.at(outputs.towers, image, position).float()

    def loss(
        self, outputs: DenseOutputs, targets: list[Targets]
    ) -> tuple[dict[str, Tensor], Positives]:
        assigned = assign(
            self._points(outputs),
            self.strides,
            self.sizes_of_interest,
            targets,
            num_classes=self.num_classes,
            radius=self.radius,
            centres=self.centres,
        )
        positive = (assigned.labels != self.num_classes).nonzero(as_tuple=True)
        image, position = positive
        weights = assigned.centerness[positive]
        centerness = outputs.centerness_logits[positive]
        num_positive = even_share(weights.new_tensor(len(weights)))
        weight_sum = even_share(weights.sum(), least=1e-6)
        class_loss = focal_loss(outputs.class_logits.flatten(0, 1), assigned.labels.flatten())
        distances = outputs.distances[positive], assigned.distances[positive]
        box_loss = ltrb_giou_loss(*distances, weights)
        centerness_loss = F.binary_cross_entropy_with_logits(centerness, weights, reduction="sum")
        losses = {
            "loss_class": class_loss / num_positive,
            "loss_box": box_loss / weight_sum,
            "loss_centerness": centerness_loss / num_positive,
        }
        first = torch.tensor([0] + [len(t) for t in targets], device=image.device).cumsum(0)
        probabilities = outputs.class_logits.detach()[positive].sigmoid()
        positives = Positives(
            image_index=image,
            target_index=assigned.target_index[positive] + first[image],
            coefficients=self.coefficients_at(outputs, image, position),
            weights=weights,
            weight_sum=weight_sum,
            scores=probabilities.amax(1) * centerness.detach().sigmoid(),
        )
        return losses, positives

    def candidate_scores(self, outputs: DenseOutputs) -> Tensor:
        """Class probability times centerness, B×S×C; 0 where it is no candidate's."""
        product = outputs.class_logits.sigmoid() * outputs.centerness_logits.sigmoid()[..., None]
        return product * (product > self.score_threshold)

    def detect(self, outputs: DenseOutputs, limit: int | None = None) -> list[Detections]:
        """At most ``limit`` detections of each image (default: ``max_detections``).

        Their score is the square root of that of candidates, as published.
        """
        most = self.max_detections if limit is None else limit
        points = self._points(outputs)
        counts = [len(p) for p in points]
        xy = torch.cat(points)
        pairs = zip(counts, self.strides, strict=True)
        stride = torch.cat([xy.new_full((count, 1), stride) for count, stride in pairs])
        detections = []
        for b, probability in enumerate(self.candidate_scores(outputs)):
            chosen = self._candidates(probability, counts)
            position, labels = chosen // self.num_classes, chosen % self.num_classes
            scores = probability.flatten()[chosen].sqrt()
            reach = outputs.distances[b, position] * stride[position]
            boxes = torch.cat([xy[position] - reach[:, :2], xy[position] + reach[:, 2:]], 1)
            keep = batched_nms(boxes, scores, labels, self.nms_iou)[:most]
            image = torch.full_like(keep, b)
            coefficients = self.coefficients_at(outputs, image, position[keep])
            detections.append(Detections(boxes[keep], scores[keep], labels[keep], coefficients))
        return detections

    def _candidates(self, probability: Tensor, counts: list[int]) -> Tensor:
        """The best entries of each level, flat indices into S×C probabilities."""
        limit = max(self.pre_nms, 10 * self.max_detections)
        candidates = []
        start = 0
        for level in probability.split(counts):
            scores = level.flatten()
            index = scores.nonzero()[:, 0]
            if len(index) > limit:
                index = index[scores[index].topk(limit, sorted=False).indices]
            candidates.append(index + start)
            start += len(scores)
        return torch.cat(candidates)

    def _points(self, outputs: DenseOutputs) -> list[Tensor]:
        return [
            locations((tower.shape[2], tower.shape[3]), stride, tower.device)
            for stride, tower in zip(self.strides, outputs.towers, strict=True)
        ]


class LevelScale(nn.Module):
    """A learned factor (FCOS §3.2)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class CondInstHead(FCOSHead):
    """FCOS with three changes (CondInst §3.1, and its published code).

    Each level's box distances have a learned factor; centre sampling uses the masks' centroids;
    the last three coefficients are not predicted: x and y of the position, in network-input pixels,
    and the object size of its level (of the last, twice the lower end of its range).

    Args:
        num_coefficients: D, with these three.
        fcos: Other arguments of ``FCOSHead``.
    """

    centres = staticmethod(mask_centroids)
    level_scale = LevelScale

    def __init__(self, *, num_coefficients: int, **fcos: Any) -> None:
        super().__init__(num_coefficients=num_coefficients - 3, **fcos)
        self.level_sizes = [float(high) for _, high in self.sizes_of_interest[:-1]]
        low = self.sizes_of_interest[-1][0]  # -1 of a single level
        self.level_sizes.append(2.0 * low if low > 0 else 8.0 * self.strides[-1])

    def coefficients_at(self, outputs: DenseOutputs, image: Tensor, position: Tensor) -> Tensor:
        """P×D: predicted coefficients, and x, y and size of the P positions."""
        levels = zip(self._points(outputs), self.level_sizes, strict=True)
        known = torch.cat([F.pad(xy, (0, 1), value=size) for xy, size in levels])
        return torch.cat([super().coefficients_at(outputs, image, position), known[position]], 1)
