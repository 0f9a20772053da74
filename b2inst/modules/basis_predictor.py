"""What predicts bases: a basis head, or one with a boundary beside it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from b2inst.structures import Bases, Features, Targets


class BasisPredictor(Protocol):
    """Global bases of a batch."""

    @property
    def num_bases(self) -> int:
        """K, as the assembler gets them."""

    def __call__(self, features: Features) -> Bases:
        """Features to bases."""

    def loss(self, features: Features, bases: Bases, targets: list[Targets]) -> dict[str, Tensor]:
        """Losses on the bases themselves; none for plain bases."""
