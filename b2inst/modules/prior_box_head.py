"""YOLACT's instance head: classes, boxes and coefficients of prior boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from b2inst.losses import hard_negative_cross_entropy
from b2inst.modules.interfaces import InstanceHead
from b2inst.modules.layers import NormLayer, PositionConv, by_position, conv_norm, initialise
from b2inst.modules.prior_targets import PriorTargets, assign, decode, prior_boxes
from b2inst.ops.distributed import even_share
from b2inst.ops.fast_nms import fast_nms
from b2inst.structures import Detections, Features, Positives, Targets, of_class


@dataclass
class PriorOutputs:
    """Predictions for the S prior boxes; levels in order, row by row, then factors."""

    class_logits: Tensor  #: B×S×(1+C), background first
    offsets: Tensor  #: B×S×4, see ``prior_targets.decode``
    towers: list[Tensor]  #: per level B×channels×h×w, which the coefficients are predicted from


class PriorBoxHead(InstanceHead):
    """One convolution and three predictors beside each other, shared over the levels (YOLACT §4).

    Args:
        num_coefficients: D per prior.
        side: Of square images, in pixels.
        square: All images are such squares, which the cells of each level fill. Otherwise images
            have any shape, cells are a stride apart, and ``side`` is only the unit of box offsets.
        scales: Side of each level's prior boxes, in pixels.
        norm: Builds a norm after the convolution; None, as published.
        coefficient_gain: Of the initial weights of the coefficients; 1, as published. With less
            they begin near 0, where their hyperbolic tangent can still take either sign.
        nms: Boxes N×4 and scores N×C of candidates to the rows and classes of detections.
    """

    outputs = PriorOutputs
    #: Of the squares at a cell: square roots of the aspect ratios 1, 1/2 and 2 that were meant.
    factors = (1.0, 0.5**0.5, 2.0**0.5)

    def __init__(
        self,
        *,
        in_channels: int,
        num_classes: int,
        num_coefficients: int,
        side: int = 550,
        square: bool = True,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
        scales: Sequence[float] = (24, 48, 96, 192, 384),
        norm: NormLayer | None = None,
        coefficient_gain: float = 1.0,
        nms: Callable[..., tuple[Tensor, Tensor]] = fast_nms,
    ) -> None:
        super().__init__()
        if len(strides) != len(scales):
            raise ValueError(
                f"head_strides {list(strides)} and prior_sizes {list(scales)}: give as many of each"
            )
        self.num_classes = num_classes
        self.side = side
        self.strides = tuple(strides)
        self.scales = tuple(scale / side for scale in scales)
        self.steps = None if square else tuple(stride / side for stride in strides)
        self.nms = nms
        each = len(self.factors)
        self.tower = conv_norm(in_channels, in_channels, norm)
        self.class_logits = nn.Conv2d(in_channels, each * (1 + num_classes), 3, padding=1)
        self.offsets = nn.Conv2d(in_channels, each * 4, 3, padding=1)
        initialise(self, nn.init.xavier_uniform_)
        # Last, so that the other weights do not depend on the number of coefficients.
        self.coefficients = PositionConv(in_channels, each * num_coefficients, 3, padding=1)
        initialise(self.coefficients, partial(nn.init.xavier_uniform_, gain=coefficient_gain))

    def forward(self, features: Features) -> PriorOutputs:
        towers = [F.relu(self.tower(features[stride])) for stride in self.strides]
        class_logits, offsets = (
            by_position(map(predictor, towers), len(self.factors))
            for predictor in (self.class_logits, self.offsets)
        )
        return PriorOutputs(class_logits, offsets, towers)

    def priors(self, outputs: PriorOutputs) -> Tensor:
        """S×4 centre x, y, width, height in units of the side."""
        shapes = [(tower.shape[2], tower.shape[3]) for tower in outputs.towers]
        boxes = prior_boxes(shapes, self.scales, self.factors, self.steps)
        return boxes.to(outputs.offsets.device)

    def coefficients_at(self, outputs: PriorOutputs, image: Tensor, prior: Tensor) -> Tensor:
        """Coefficients of P priors, given image and number of each, both P: P×D."""
        each = len(self.factors)
        values = self.coefficients.at(outputs.towers, image, prior // each)
        return of_class(values.unflatten(1, (each, -1)), prior % each)

    def targets(self, priors: Tensor, targets: Sequence[Targets]) -> PriorTargets:
        boxes = [target.boxes / self.side for target in targets]
        crowds = [None if t.crowds is None else t.crowds / self.side for t in targets]
        return assign(priors, boxes, [target.labels for target in targets], crowds)

    def loss(
        self, outputs: PriorOutputs, targets: list[Targets]
    ) -> tuple[dict[str, Tensor], Positives]:
        assigned = self.targets(self.priors(outputs), targets)
        positive = (assigned.labels >= 0).nonzero(as_tuple=True)
        image, prior = positive
        count = even_share(outputs.offsets.new_tensor(len(image)))
        class_loss = hard_negative_cross_entropy(outputs.class_logits, assigned.labels + 1)
        offsets = outputs.offsets[positive], assigned.offsets[positive]
        box_loss = F.smooth_l1_loss(*offsets, reduction="sum")
        first = torch.tensor([0] + [len(t) for t in targets], device=image.device).cumsum(0)
        positives = Positives(
            image_index=image,
            target_index=assigned.target_index[positive] + first[image],
            coefficients=self.coefficients_at(outputs, image, prior),
            weights=assigned.overlaps[positive],
            weight_sum=count,
        )
        return {"loss_class": class_loss / count, "loss_box": 1.5 * box_loss / count}, positives

    def detect(self, outputs: PriorOutputs) -> list[Detections]:
        detections = []
        priors = self.priors(outputs)
        probabilities = outputs.class_logits.softmax(-1)[..., 1:]
        for b, probability in enumerate(probabilities):
            candidates = (probability.amax(1) > self.score_threshold).nonzero()[:, 0]
            scores = probability[candidates]
            boxes = decode(outputs.offsets[b, candidates], priors[candidates])
            rows, labels = self.nms(boxes, scores, most=self.max_detections)
            prior = candidates[rows]
            coefficients = self.coefficients_at(outputs, torch.full_like(prior, b), prior)
            boxes = boxes[rows] * self.side
            detections.append(Detections(boxes, scores[rows, labels], labels, coefficients))
        return detections
