"""Four parts and how they meet: the paper's Figure 2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from b2inst.models.image_segmenter import ImageLike, ImageSegmenter, read_image
from b2inst.models.interfaces import Assembler, ImagePreprocessor, InstanceHead
from b2inst.modules.basis_predictor import BasisPredictor
from b2inst.modules.scoring_head import ScoringHead
from b2inst.structures import Bases, Detections, Features, Instances, Positives, Targets


@dataclass
class Explanation:
    """What lies behind the instances of one image."""

    image: np.ndarray  #: H×W×3 uint8 RGB, as given
    instances: Instances
    detections: Detections  #: boxes in network-input pixels, with coefficients; same order
    bases: Bases  #: of a batch of one
    content: tuple[int, int]  #: (h, w) of the basis grid that the image covers; the rest is padding

    @property
    def boundary(self) -> Tensor | None:
        """h×w boundary probability over the image, where the model predicts one."""
        if self.bases.boundary_logits is None:
            return None
        height, width = self.content
        return self.bases.boundary_logits[0, 0, :height, :width].sigmoid()


class BasisSegmenter(ImageSegmenter):
    """A single-stage segmenter that composes instance coefficients with global bases.

    No part knows the others: the instance head gives boxes and coefficients, the basis head gives
    bases, the assembler makes masks of both, the scoring head (where there is one) rates them.

    Args:
        backbone: images to features by stride.
        preprocessor, instance_head, assembler: see ``b2inst.models.interfaces``.
        basis_head: see ``b2inst.modules.basis_predictor``.
        scoring_head: without one, the ranking score is the classification score.
        exported: computes ``network`` in place of the parts; in models that only predict.
    """

    def __init__(
        self,
        *,
        preprocessor: ImagePreprocessor,
        backbone: nn.Module,
        instance_head: InstanceHead,
        basis_head: BasisPredictor,
        assembler: Assembler,
        scoring_head: ScoringHead | None = None,
        exported: nn.Module | None = None,
    ) -> None:
        super().__init__(preprocessor=preprocessor, backbone=backbone)
        self.instance_head = instance_head
        self.basis_head = basis_head
        self.assembler = assembler
        self.scoring_head = scoring_head
        self.exported = exported

    @property
    def _limited(self) -> InstanceHead:
        return self.instance_head

    def forward(self, images: list[Tensor], targets: list[Targets]) -> dict[str, Tensor]:
        """Losses by name; see ``ImageSegmenter``."""
        batch = self.preprocessor(images)
        features, outputs, bases = self.network(batch.images)
        bases = self._shown(bases, [t.masks for t in targets])
        losses, positives = self.instance_head.loss(outputs, targets)
        losses |= self.basis_head.loss(features, bases, targets)
        losses |= self.assembler.loss(bases, positives, targets)
        if self.scoring_head is not None:
            losses |= self._scoring_loss(features, bases, positives, targets)
        return losses

    def network(self, images: Tensor) -> tuple[Features, Any, Bases]:
        """What is computed of all pixels: features, the instance head's outputs and bases.

        Args:
            images: B×3×H×W, as the preprocessor makes them.
        """
        if self.exported is not None:
            features, outputs, bases = self.exported(images)
        else:
            features = self.backbone(images)
            outputs, bases = self.instance_head(features), self.basis_head(features)
        return features, outputs, bases

    def _shown(self, bases: Bases, truths: Sequence[Tensor] | None) -> Bases:
        """The bases; the true masks of each image are for those who may look at them."""
        return bases

    def _scoring_loss(
        self, features: Features, bases: Bases, positives: Positives, targets: list[Targets]
    ) -> dict[str, Tensor]:
        """Train the scoring head on the true boxes (paper §4.2), one mask for each object.

        Each object is shown with the mask of its most central position. No gradient flows into
        that mask: rating a mask should not bend it.
        """
        assert self.scoring_head is not None
        order = positives.weights.argsort(stable=True)
        places = torch.arange(len(order), device=order.device)
        last = order.new_full((sum(map(len, targets)),), -1)  # place of its largest weight
        last = last.scatter_reduce(0, positives.target_index[order], places, "amax")
        shown = (last >= 0).cpu().split([len(t) for t in targets])  # one transfer, not one each
        boxes = [t.boxes[s] for t, s in zip(targets, shown, strict=True)]
        with torch.no_grad():
            coefficients = positives.coefficients[order[last[torch.cat(shown)]]]
            masks = self.assembler.assemble(bases, boxes, coefficients)
        truths = [t.masks[s] for t, s in zip(targets, shown, strict=True)]
        return self.scoring_head.loss(features, boxes, masks, truths)

    @torch.inference_mode()
    def segment(
        self, images: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[Instances]:
        """What ``predict`` does once images are resized; see ``ImageSegmenter``."""
        return [result[0] for result in self._run(images, sizes)]

    @torch.inference_mode()
    def explain(self, image: ImageLike) -> Explanation:
        """Predict one image and keep what lies behind: bases, boundary, coefficients."""
        array = read_image(image)
        ((instances, detections, bases, size),) = self._run(
            [self.preprocessor.resized(array)], [array.shape[:2]]
        )
        # The quotient of a fractional stride may be a last bit above a whole number of cells.
        height, width = (math.ceil(side / bases.stride - 1e-6) for side in size)
        content = (height, width)
        return Explanation(array, instances, detections, bases, content)

    def _run(
        self,
        images: Sequence[Tensor],
        sizes: Sequence[tuple[int, int]],
        truths: Sequence[Tensor] | None = None,
    ) -> list[tuple[Instances, Detections, Bases, tuple[int, int]]]:
        network = self._network()
        if not images:
            return []
        batch = self.preprocessor(list(images))
        with network:
            features, outputs, bases = self.network(batch.images)
        bases = self._shown(bases, truths)
        detections = self.instance_head.detect(outputs)
        boxes = [d.boxes for d in detections]
        masks = self.assembler.assemble(
            bases, boxes, torch.cat([d.coefficients for d in detections])
        )
        qualities: dict[str, Tensor] = {}
        if self.scoring_head is not None:
            with self._network():
                logits = self.scoring_head(features, boxes, masks)
            qualities = {name: value.sigmoid() for name, value in logits.items()}

        results = []
        start = 0
        for i, (image_size, detection) in enumerate(zip(sizes, detections, strict=True)):
            rows = slice(start, start + len(detection))
            start += len(detection)
            instances, order = self._finish(
                detection,
                masks[rows],
                {name: value[rows] for name, value in qualities.items()},
                network_size=batch.sizes[i],
                image_size=image_size,
            )
            own = Bases(
                bases.maps[i : i + 1],
                bases.stride,
                None if bases.boundary_logits is None else bases.boundary_logits[i : i + 1],
            )
            results.append((instances, detection[order], own, batch.sizes[i]))
        return results


class NoBasesError(ValueError):
    """A model of another kind was asked for its bases."""


def with_bases(model: ImageSegmenter) -> BasisSegmenter:
    """The model itself, for what concerns bases only.

    Raises:
        NoBasesError: it makes masks of something else.
    """
    if not isinstance(model, BasisSegmenter):
        raise NoBasesError(
            f"{model.recipe.get('name', 'this model')} has no bases to show; choose one of the "
            "blendmask, yolact or condinst families"
        )
    return model
