"""Detections for untrained models, which find nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from b2inst.benchmark.samples import Sample
from b2inst.models import Segmenter, TwoStageSegmenter, with_bases
from b2inst.structures import Detections, ImageBatch


class BenchmarkError(ValueError):
    """A benchmark that cannot be run; the message is one line with a remedy."""


class DummyDetections:
    """Give an untrained model as many detections as a trained one, at the objects of the image.

    The head does all its work: its score threshold is set so that ``count`` detections of the first
    image pass. Their boxes, which are random, are then replaced by those of the image's objects,
    each several times and slightly shifted. The model is modified.
    """

    def __init__(self, model: Segmenter, count: int) -> None:
        self.count = count
        self.sample: Sample | None = None  #: the image that is predicted next
        self._head: Any = (
            model.detector
            if isinstance(model, TwoStageSegmenter)
            else with_bases(model).instance_head
        )
        self._detect = self._head.detect
        vars(self._head)["detect"] = self._replaced
        self._calibrated = False
        self._network_size = (1, 1)
        model.preprocessor.register_forward_hook(self._record_size)

    def _record_size(self, _module: Any, _images: Any, batch: ImageBatch) -> None:
        (self._network_size,) = batch.sizes

    def _replaced(self, *outputs: Any) -> list[Detections]:
        if not self._calibrated:
            self._calibrate(*outputs)
            self._calibrated = True
        (found,) = self._detect(*outputs)
        rows = torch.arange(self.count, device=found.boxes.device) % max(len(found), 1)
        dummies = found[rows[: self.count if len(found) else 0]]
        dummies.boxes = self._boxes()[: len(dummies)].to(found.boxes)
        return [dummies]

    def _calibrate(self, *outputs: Any) -> None:
        """Set the highest score threshold that ``count`` detections pass, to within a fifth."""
        for threshold in np.geomspace(1, 1e-9, 91)[1:]:
            self._head.score_threshold = float(threshold)
            (found,) = self._detect(*outputs)
            if len(found) >= self.count:
                return
        raise BenchmarkError(
            f"only {len(found)} detections at any score, not {self.count}; ask for fewer with "
            "--detections, or give trained weights"
        )

    def _boxes(self) -> Tensor:
        """Boxes in network-input pixels, the same for all models, count×4."""
        assert self.sample is not None
        height, width = self.sample.image.shape[:2]
        boxes = self.sample.boxes[np.arange(self.count) % len(self.sample.boxes)]
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        shift = 0.1 * sides * np.random.default_rng(0).uniform(-1, 1, boxes.shape)
        scale = np.array([self._network_size[1] / width, self._network_size[0] / height])
        return torch.from_numpy(((boxes + shift) * np.tile(scale, 2)).astype(np.float32))
