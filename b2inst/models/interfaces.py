"""What a ``BasisSegmenter`` asks of its parts. A new family of models implements these."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from b2inst.structures import Bases, Detections, Features, Masks, Positives, Targets


class Detector(Protocol):
    """A part that detects instances."""

    max_detections: int  #: per image


class InstanceHead(Detector, Protocol):
    """Boxes, classes and D coefficients per position, which only the assembler interprets.

    If an assembler needs to know more of a position, such as where it is, the head appends that
    to the coefficients.
    """

    @property
    def outputs(self) -> type:
        """What it returns: a dataclass of tensors, and lists of them by level."""

    def __call__(self, features: Features) -> Any:
        """``outputs`` at all positions."""

    def loss(self, outputs: Any, targets: list[Targets]) -> tuple[dict[str, Tensor], Positives]:
        """Losses by name, and the positions whose masks are to be trained."""

    def detect(self, outputs: Any) -> list[Detections]:
        """Detections of each image, in network-input pixels."""


class Assembler(Protocol):
    """Masks from bases and coefficients."""

    @property
    def num_coefficients(self) -> int:
        """Number of coefficients D."""

    @property
    def of_last_basis(self) -> Tensor:
        """Which coefficients concern the last basis alone: D bool."""

    def assemble(self, bases: Bases, boxes: list[Tensor], coefficients: Tensor) -> Masks:
        """Masks of N instances: boxes per image, coefficients N×D."""

    def loss(self, bases: Bases, positives: Positives, targets: list[Targets]) -> dict[str, Tensor]:
        """The mask loss of the positives."""
