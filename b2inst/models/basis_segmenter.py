"""A model with bases: backbone, instance head, basis head, assembler, scoring head (Figure 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from b2inst.inference import autocast
from b2inst.models.segmenter import (
    Explanation,
    ImageLike,
    ModelError,
    Prediction,
    Segmenter,
    no_bases,
    rgb_array,
)
from b2inst.modules.boundary_basis import OracleBoundary
from b2inst.modules.interfaces import Assembler, BasisPredictor, InstanceHead
from b2inst.modules.preprocessor import Preprocessor
from b2inst.modules.scoring_head import ScoringHead
from b2inst.result import Result
from b2inst.structures import Bases, Features, ImageBatch, Positives, Targets


class BasisSegmenter(Segmenter):
    """A single-stage segmenter that composes instance coefficients with global bases.

    The instance head predicts boxes and coefficients, and the basis head predicts bases. The
    assembler combines both into masks, and the scoring head, if any, scores them.

    Args:
        preprocessor, backbone: See ``Segmenter``.
        instance_head, basis_head, assembler: See ``b2inst.modules.interfaces``.
        scoring_head: Without one, the ranking score is the classification score.
        oracle: Replaces predicted boundaries by the true ones, also at inference (an upper bound).
            Such a model needs the true masks of an image to predict it.
        exported: Computes ``network`` in place of the parts, in models that only predict.
    """

    _detector = property(attrgetter("instance_head"))

    def __init__(
        self,
        *,
        preprocessor: Preprocessor,
        backbone: nn.Module,
        instance_head: InstanceHead,
        basis_head: BasisPredictor,
        assembler: Assembler,
        scoring_head: ScoringHead | None = None,
        oracle: OracleBoundary | None = None,
        exported: nn.Module | None = None,
    ) -> None:
        super().__init__(preprocessor=preprocessor, backbone=backbone)
        self.instance_head = instance_head
        self.basis_head = basis_head
        self.assembler = assembler
        self.scoring_head = scoring_head
        self.oracle = oracle
        self.exported = exported

    def forward(self, images: list[Tensor], targets: list[Targets]) -> dict[str, Tensor]:
        batch = self.preprocessor(images)
        features, outputs, bases = self.network(batch.images)
        bases = self._with_true_boundary(bases, [t.masks for t in targets])
        losses, positives = self.instance_head.loss(outputs, targets)
        losses |= self.basis_head.loss(features, bases, targets)
        losses |= self.assembler.loss(bases, positives, targets)
        return losses | self._scoring_loss(features, bases, positives, targets)

    def network(self, images: Tensor) -> tuple[Features, Any, Bases]:
        """Compute features, outputs of the instance head and bases of preprocessed images."""
        if self.exported is not None:
            return self.exported(images)
        features = self.backbone(images)
        return features, self.instance_head(features), self.basis_head(features)

    def _with_true_boundary(self, bases: Bases, masks: Sequence[Tensor] | None) -> Bases:
        """The bases, with the boundary of each image's true masks where there is an oracle."""
        if self.oracle is None:
            return bases
        if masks is None:
            raise ModelError(
                "this model is shown the true boundaries, which an image alone does not have; "
                "`b2inst eval` and tables can evaluate it on annotated data"
            )
        return self.oracle(bases, [m.to(bases.maps.device) for m in masks])

    def _scoring_loss(
        self, features: Features, bases: Bases, positives: Positives, targets: list[Targets]
    ) -> dict[str, Tensor]:
        """Train the scoring head on true boxes (paper §4.2), one mask per object.

        The mask is that of the object's most central position. No gradient flows into it: the
        scoring loss must not change the mask.
        """
        if self.scoring_head is None:
            return {}
        order = positives.weights.argsort(stable=True)
        rank = torch.arange(len(order), device=order.device)
        last = order.new_full((sum(map(len, targets)),), -1)  # rank of its largest weight
        last = last.scatter_reduce(0, positives.target_index[order], rank, "amax")
        rated = (last >= 0).cpu().split([len(t) for t in targets])  # one transfer, not one each
        boxes = [t.boxes[index] for t, index in zip(targets, rated, strict=True)]
        with torch.no_grad():
            coefficients = positives.coefficients[order[last[torch.cat(rated)]]]
            masks = self.assembler.assemble(bases, boxes, coefficients)
        truths = [t.masks[index] for t, index in zip(targets, rated, strict=True)]
        return self.scoring_head.loss(features, boxes, masks, truths)

    def _predict(self, batch: ImageBatch, truths: Sequence[Tensor] | None = None) -> Prediction:
        with self._network():
            features, outputs, bases = self.network(batch.images)
        bases = self._with_true_boundary(bases, truths)
        with autocast(batch.images.device, "float32"):  # also where the caller casts
            detections = self._candidates(self.instance_head.detect(outputs))
            boxes = [d.boxes for d in detections]
            coefficients = torch.cat([d.coefficients for d in detections])
            masks = self.assembler.assemble(bases, boxes, coefficients)
        qualities: dict[str, Tensor] = {}
        if self.scoring_head is not None:
            with self._network():
                logits = self.scoring_head(features, boxes, masks)
            qualities = {name: value.sigmoid() for name, value in logits.items()}
        return Prediction(detections, masks, qualities, bases)

    @torch.inference_mode()
    def predict_with_truth(
        self, images: Sequence[ImageLike], truths: Sequence[Tensor]
    ) -> list[Result]:
        """Predict images with an oracle model, given the true masks of each, N×H×W uint8."""
        arrays = [rgb_array(image) for image in images]
        batch = self.preprocessor([self.preprocessor.resized(array) for array in arrays])
        masks = [
            interpolate(truth[:, None], size, mode="nearest-exact")[:, 0]
            for truth, size in zip(truths, batch.sizes, strict=True)
        ]
        sizes = [array.shape[:2] for array in arrays]
        ranked = self._ranked(self._predict(batch, masks), batch.sizes, sizes)
        return self._results([instances for instances, _ in ranked], arrays)

    @torch.inference_mode()
    def explain(self, image: ImageLike) -> Explanation:
        """Predict one image; also return the bases, boundary and coefficients behind its masks."""
        array = rgb_array(image)
        batch = self.preprocessor([self.preprocessor.resized(array)])
        prediction = self._predict(batch)
        ((instances, detections),) = self._ranked(prediction, batch.sizes, [array.shape[:2]])
        bases = prediction.bases
        assert bases is not None
        # The quotient of a fractional stride may be a last bit above a whole number of cells.
        height, width = (math.ceil(side / bases.stride - 1e-6) for side in batch.sizes[0])
        result = Result.of(instances, array, self.category_ids)
        return Explanation(array, result, detections, bases, (height, width))


def with_bases(model: Segmenter) -> BasisSegmenter:
    """The model itself, for callers that need bases; a ModelError if it composes none."""
    if not isinstance(model, BasisSegmenter):
        raise no_bases(model)
    return model
