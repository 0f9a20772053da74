"""What the segmenter asks of its parts. A new family of models implements these."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from torch import Tensor

from b2inst.structures import (
    Bases,
    Detections,
    Features,
    ImageBatch,
    Masks,
    Positives,
    RoIOutputs,
    RoISamples,
    Targets,
)


class ImagePreprocessor(Protocol):
    """At which size, and as which numbers, the network sees an image."""

    mean: Tensor  #: of the channels, 3×1×1 on the scale 0 to 255, in the network's order
    std: Tensor
    bgr: bool  #: the network wants blue first
    size_divisor: int  #: sides that are no multiples of it are padded
    #: (height, width) that every image gets, whatever its shape; None where shapes are kept.
    fixed_size: tuple[int, int] | None

    def resized(self, image: np.ndarray) -> Tensor:
        """H×W×3 uint8 RGB to 3×h×w RGB, 0 to 255, at the size that ``predict`` looks at."""

    def __call__(self, images: list[Tensor]) -> ImageBatch:
        """3×h×w RGB images, 0 to 255, already at the network's size, to one normalised batch."""


class LimitedDetector(Protocol):
    """What finds instances, at most so many."""

    max_detections: int  #: of an image


class InstanceHead(LimitedDetector, Protocol):
    """Boxes, classes and D coefficients per position; what these mean only the assembler knows.

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
        """D."""

    @property
    def of_last_basis(self) -> Tensor:
        """Which coefficients concern the last basis alone: D bool."""

    def assemble(self, bases: Bases, boxes: list[Tensor], coefficients: Tensor) -> Masks:
        """Masks of N instances: boxes per image, coefficients N×D."""

    def loss(self, bases: Bases, positives: Positives, targets: list[Targets]) -> dict[str, Tensor]:
        """The mask loss of the positives."""


class BoxDetector(LimitedDetector, Protocol):
    """Boxes and classes, for models that make each mask of the features in its box."""

    score_threshold: float  #: least score of a detection

    def loss(
        self, features: Features, batch: ImageBatch, targets: list[Targets]
    ) -> tuple[dict[str, Tensor], list[RoISamples]]:
        """Losses by name, and each image's boxes whose masks are to be trained."""

    def detect(self, features: Features, batch: ImageBatch) -> list[Detections]:
        """Detections of each image, in network-input pixels."""


class MaskHead(Protocol):
    """A mask for each class in a box, from the features inside."""

    roi_size: int  #: R, cells of a mask's side

    def __call__(self, features: Features, boxes: list[Tensor]) -> RoIOutputs:
        """Of N boxes, given per image in network-input pixels."""

    def loss(self, outputs: RoIOutputs, labels: Tensor, truths: Tensor) -> dict[str, Tensor]:
        """Losses by name, of N boxes: labels N, truths N×R×R, 0 or 1."""
