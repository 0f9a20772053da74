"""What the segmenter asks of its parts. A new family of models implements these."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from b2inst.structures import Bases, Detections, Features, Positives, RoIMasks, Targets


class InstanceHead(Protocol):
    """Boxes, classes and D coefficients per position; what these mean only the assembler knows."""

    def __call__(self, features: Features) -> Any:
        """Dense outputs, in a form of the head's own."""

    def loss(self, outputs: Any, targets: list[Targets]) -> tuple[dict[str, Tensor], Positives]:
        """Losses by name, and the positions whose masks are to be trained."""

    def detect(self, outputs: Any) -> list[Detections]:
        """Detections of each image, in network-input pixels."""


class BasisPredictor(Protocol):
    """Global bases of a batch."""

    def __call__(self, features: Features) -> Bases:
        """Features to bases."""

    def loss(self, features: Features, bases: Bases, targets: list[Targets]) -> dict[str, Tensor]:
        """Losses on the bases themselves; none for plain bases."""


class Assembler(Protocol):
    """Masks from bases and coefficients."""

    @property
    def num_coefficients(self) -> int:
        """D."""

    def assemble(self, bases: Bases, boxes: list[Tensor], coefficients: Tensor) -> RoIMasks:
        """Masks of N instances: boxes per image, coefficients N×D."""

    def loss(self, bases: Bases, positives: Positives, targets: list[Targets]) -> dict[str, Tensor]:
        """The mask loss of the positives."""
