"""Base classes of the parts of a ``BasisSegmenter``. A new family of models implements these."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from b2inst.modules.refinement import Refinement
from b2inst.modules.semantic_heads import ClassMapHead, SemanticHead
from b2inst.structures import Bases, Detections, Features, Masks, Positives, Targets


class InstanceHead(nn.Module):
    """Called with features, predicts boxes, classes and D coefficients at every position.

    What else the assembler needs to know of a position, such as where it is, is appended to them.
    """

    outputs: type  #: what it returns: a dataclass of tensors, and lists of them by level
    score_threshold = 0.05
    max_detections = 100  #: per image

    def loss(self, outputs: Any, targets: list[Targets]) -> tuple[dict[str, Tensor], Positives]:
        """Losses by name, and the positions whose masks are to be trained."""
        raise NotImplementedError

    def detect(self, outputs: Any) -> list[Detections]:
        """Detections of each image, in network-input pixels."""
        raise NotImplementedError


class BasisPredictor(nn.Module):
    """Called with features, predicts the K bases of a batch."""

    num_bases: int  #: K
    auxiliary: SemanticHead | ClassMapHead | None

    def loss(self, features: Features, bases: Bases, targets: list[Targets]) -> dict[str, Tensor]:
        """The auxiliary loss, if any; the bases themselves learn from the mask loss only."""
        return {} if self.auxiliary is None else self.auxiliary.loss(features, targets)


class Assembler(nn.Module):
    """Composes masks of bases and coefficients.

    Args:
        num_bases: K.
        num_coefficients: D.
        refinement: Of mask logits, guided by the boundary.
    """

    def __init__(
        self, *, num_bases: int, num_coefficients: int, refinement: Refinement | None = None
    ) -> None:
        super().__init__()
        self.num_bases = num_bases
        self.num_coefficients = num_coefficients
        self.refinement = refinement

    @property
    def of_last_basis(self) -> Tensor:
        """Which coefficients concern the last basis alone, D bool; by default the last D / K."""
        first = self.num_coefficients - self.num_coefficients // self.num_bases
        return torch.arange(self.num_coefficients) >= first

    def assemble(self, bases: Bases, boxes: list[Tensor], coefficients: Tensor) -> Masks:
        """N masks of boxes per image, in network-input pixels, and N×D coefficients."""
        raise NotImplementedError

    def loss(self, bases: Bases, positives: Positives, targets: list[Targets]) -> dict[str, Tensor]:
        """The mask loss of the positives."""
        raise NotImplementedError

    def refined(self, logits: Tensor, boundary: Tensor | None) -> Tensor:
        """N×h×w logits, refined by the boundary logits of the same cells."""
        return logits if self.refinement is None else self.refinement(logits, boundary)
