"""Modules between an assembler's logits and its masks: ours, not the paper's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from torch import Tensor, nn


class Refinement(Protocol):
    """Improves mask logits, in the same cells."""

    def __call__(self, logits: Tensor, boundary: Tensor | None) -> Tensor:
        """N×h×w logits.

        Args:
            logits: N×h×w, composed by the assembler.
            boundary: logits of the predicted boundary in the same cells, N×h×w or 1×h×w; None
                where the model predicts none.
        """

    def states(self, logits: Tensor, boundary: Tensor | None) -> Iterator[Tensor]:
        """Logits after each step; the last are those of the call."""


class InTurn(nn.Module):
    """Refinements one after the other."""

    def __init__(self, refinements: Sequence[nn.Module]) -> None:
        super().__init__()
        self.refinements = nn.ModuleList(refinements)

    def forward(self, logits: Tensor, boundary: Tensor | None) -> Tensor:
        for refinement in self.refinements:
            logits = refinement(logits, boundary)
        return logits

    def states(self, logits: Tensor, boundary: Tensor | None) -> Iterator[Tensor]:
        """All steps of one, then those of the next; see ``Refinement``."""
        for refinement in self.refinements:
            for logits in refinement.states(logits, boundary):  # type: ignore[operator]  # noqa: B020
                yield logits


class ConvRefinement(nn.Module):
    """A residual of three 3×3 convolutions on each mask's logits, which sees no boundary.

    The last begins at 0, so that masks are unchanged at first.

    Args:
        channels: between the convolutions.
    """

    def __init__(self, *, channels: int = 12) -> None:
        super().__init__()
        first = nn.Conv2d(1, channels, 3, padding=1)
        second = nn.Conv2d(channels, channels, 3, padding=1)
        last = nn.Conv2d(channels, 1, 3, padding=1)
        self.convs = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)
        for conv in (first, second):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        nn.init.zeros_(last.weight)
        for conv in (first, second, last):
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, logits: Tensor, boundary: Tensor | None) -> Tensor:
        residual: Tensor = self.convs(logits[:, None])[:, 0]
        return logits + residual.float()

    def states(self, logits: Tensor, boundary: Tensor | None) -> Iterator[Tensor]:
        """A single step; see ``Refinement``."""
        yield self(logits, boundary)
