"""YOLACT's instance head: classes, boxes and coefficients of prior boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from b2inst.losses import hard_negative_cross_entropy
from b2inst.modules.layers import PositionConv, initialise
from b2inst.modules.prior_targets import PriorTargets, assign, decode, prior_boxes
from b2inst.ops.distributed import even_share
from b2inst.ops.fast_nms import fast_nms
from b2inst.structures import Detections, Features, Positives, Targets, of_class

#: Of the three squares at a cell: square roots of the aspect ratios that were meant.
FACTORS = (1.0, 0.5**0.5, 2.0**0.5)


@dataclass
class PriorOutputs:
    """What the head predicts for the S prior boxes; levels in order, row by row, then factors."""

    class_logits: Tensor  #: B×S×(1+C), background first
    offsets: Tensor  #: B×S×4, see ``prior_boxes.decode``
    towers: list[Tensor]  #: per level B×channels×h×w, what the coefficients are predicted from


class PriorBoxHead(nn.Module):
    """One convolution and three predictors beside each other, shared over the levels (YOLACT §4).

    Args:
        in_channels: channels of the features.
        num_classes: C.
        num_coefficients: D, numbers per prior that only the assembler interprets.
        side: of square images, in pixels.
        square: all images are such squares, which the cells of each level fill. Otherwise images
            have any shape, cells are a stride apart, and ``side`` is only the unit of box offsets.
        strides: of the levels that the head reads.
        scales: side of each level's prior boxes, in pixels.
        factors: of the prior boxes at a cell.
        norm: builds a norm after the convolution from its width; None, as published.
        coefficient_gain: of the initial weights of the coefficients; 1, as published. With less
            they begin near 0, where their hyperbolic tangent can still take either sign.
        score_threshold: least class probability of a candidate.
        nms: boxes N×4 and scores N×C of candidates to the rows and classes of detections.
        max_detections: per image.
    """

    outputs = PriorOutputs

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
        factors: Sequence[float] = FACTORS,
        norm: Callable[[int], nn.Module] | None = None,
        coefficient_gain: float = 1.0,
        score_threshold: float = 0.05,
        nms: Callable[..., tuple[Tensor, Tensor]] = fast_nms,
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_coefficients = num_coefficients
        self.side = side
        self.strides = tuple(strides)
        self.scales = tuple(scale / side for scale in scales)
        self.steps = None if square else tuple(stride / side for stride in strides)
        self.factors = tuple(factors)
        self.score_threshold = score_threshold
        self.nms = nms
        self.max_detections = max_detections
        tower = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.tower = tower if norm is None else nn.Sequential(tower, norm(in_channels))
        self.class_logits = nn.Conv2d(in_channels, len(factors) * (1 + num_classes), 3, padding=1)
        self.offsets = nn.Conv2d(in_channels, len(factors) * 4, 3, padding=1)
        initialise(self, nn.init.xavier_uniform_)
        # Last, so that the other weights do not depend on the number of coefficients.
        self.coefficients = PositionConv(in_channels, len(factors) * num_coefficients)
        xavier = partial(nn.init.xavier_uniform_, gain=coefficient_gain)
        initialise(self.coefficients, xavier)

    def forward(self, features: Features) -> PriorOutputs:
        """Predictions for every prior box, of features at the head's strides."""
        towers = [F.relu(self.tower(features[stride])) for stride in self.strides]
        return PriorOutputs(
            torch.cat([self._by_prior(self.class_logits(t)) for t in towers], dim=1).float(),
            torch.cat([self._by_prior(self.offsets(t)) for t in towers], dim=1).float(),
            towers,
        )

    def priors(self, outputs: PriorOutputs) -> Tensor:
        """S×4 centre x, y, width, height in units of the side."""
        towers = outputs.towers
        shapes = [(tower.shape[2], tower.shape[3]) for tower in towers]
        return prior_boxes(shapes, self.scales, self.factors, self.steps).to(towers[0].device)

    def coefficients_at(self, outputs: PriorOutputs, image: Tensor, prior: Tensor) -> Tensor:
        """Coefficients of P priors, given image and number of each, both P: P×D."""
        each = len(self.factors)
        values = self.coefficients.at(outputs.towers, image, prior // each)
        return of_class(values.unflatten(1, (each, -1)), prior % each)

    def targets(self, priors: Tensor, targets: Sequence[Targets]) -> PriorTargets:
        """Training targets of the prior boxes."""
        boxes = [target.boxes / self.side for target in targets]
        labels = [target.labels for target in targets]
        crowds = [None if t.crowds is None else t.crowds / self.side for t in targets]
        return assign(priors, boxes, labels, crowds)

    def loss(
        self, outputs: PriorOutputs, targets: list[Targets]
    ) -> tuple[dict[str, Tensor], Positives]:
        """Losses of classes and boxes, and the priors whose masks are to be trained."""
        assigned = self.targets(self.priors(outputs), targets)
        positive = (assigned.labels >= 0).nonzero(as_tuple=True)
        image, prior = positive
        count = even_share(outputs.offsets.new_tensor(len(image)))
        box_loss = F.smooth_l1_loss(
            outputs.offsets[positive], assigned.offsets[positive], reduction="sum"
        )
        losses = {
            "loss_class": hard_negative_cross_entropy(outputs.class_logits, assigned.labels + 1)
            / count,
            "loss_box": 1.5 * box_loss / count,
        }
        first = torch.tensor([0] + [len(t) for t in targets], device=image.device).cumsum(0)
        positives = Positives(
            image_index=image,
            target_index=assigned.target_index[positive] + first[image],
            coefficients=self.coefficients_at(outputs, image, prior),
            weights=assigned.overlaps[positive],
            weight_sum=count,
        )
        return losses, positives

    def detect(self, outputs: PriorOutputs) -> list[Detections]:
        """Boxes, scores and coefficients of each image after non-maximum suppression."""
        detections = []
        priors = self.priors(outputs)
        probabilities = outputs.class_logits.softmax(-1)[..., 1:]
        for b, probability in enumerate(probabilities):
            candidates = (probability.amax(1) > self.score_threshold).nonzero()[:, 0]
            scores = probability[candidates]
            boxes = decode(outputs.offsets[b, candidates], priors[candidates])
            rows, labels = self.nms(boxes, scores, most=self.max_detections)
            prior = candidates[rows]
            detections.append(
                Detections(
                    boxes[rows] * self.side,
                    scores[rows, labels],
                    labels,
                    self.coefficients_at(outputs, torch.full_like(prior, b), prior),
                )
            )
        return detections

    def _by_prior(self, level: Tensor) -> Tensor:
        """B×(factors·numbers)×h×w to B×(h·w·factors)×numbers."""
        values = level.unflatten(1, (len(self.factors), -1)).permute(0, 3, 4, 1, 2)
        return values.flatten(1, 3)
