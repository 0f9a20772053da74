"""What may stand between an assembler's logits and its masks: ours, not the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn


class Refinement(Protocol):
    """Mask logits to better ones, in the same cells."""

    def __call__(self, logits: Tensor, boundary: Tensor | None) -> Tensor:
        """N×h×w logits.

        Args:
            logits: N×h×w, as the assembler composes them.
            boundary: logits of the predicted boundary in the same cells, N×h×w or 1×h×w; None
                where the model predicts no boundary.
        """


class InTurn(nn.Module):
    """Refinements one after the other."""

    def __init__(self, refinements: Sequence[nn.Module]) -> None:
        super().__init__()
        self.refinements = nn.ModuleList(refinements)

    def forward(self, logits: Tensor, boundary: Tensor | None) -> Tensor:
        for refinement in self.refinements:
            logits = refinement(logits, boundary)
        return logits


class ConvRefinement(nn.Module):
    """A residual of three 3×3 convolutions on each mask's logits, which sees no boundary.

    The last begins at 0, so that masks are unchanged at first.

    Args:
        channels: between the convolutions.
    """

    def __init__(self, *, channels: int = 12) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 1, 3, padding=1),
        )
        for conv in (self.convs[0], self.convs[2]):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")  # type: ignore[arg-type]
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.convs[4].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.convs[4].bias)  # type: ignore[arg-type]

    def forward(self, logits: Tensor, boundary: Tensor | None) -> Tensor:
        residual: Tensor = self.convs(logits[:, None])[:, 0]
        return logits + residual.float()
