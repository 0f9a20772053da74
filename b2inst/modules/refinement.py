"""Modules between an assembler's logits and its masks: ours, not the paper's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from b2inst.modules.layers import initialise


class Refinement(nn.Module):
    """Improves mask logits, in the same cells; called as ``states`` is, returns the last."""

    def forward(self, logits: Tensor, boundary: Tensor | None) -> Tensor:
        *_, last = self.states(logits, boundary)
        return last

    def states(self, logits: Tensor, boundary: Tensor | None) -> Iterator[Tensor]:
        """N×h×w logits after each step.

        ``boundary`` has logits of the predicted boundary in the same cells, N×h×w or 1×h×w; None
        where the model predicts none.
        """
        raise NotImplementedError


class InTurn(Refinement):
    """Refinements one after the other."""

    def __init__(self, refinements: Sequence[Refinement]) -> None:
        super().__init__()
        self.refinements = nn.ModuleList(refinements)

    def states(self, logits: Tensor, boundary: Tensor | None) -> Iterator[Tensor]:
        for refinement in self.refinements:
            for logits in refinement.states(logits, boundary):  # type: ignore[operator]  # noqa: B020
                yield logits


class ConvRefinement(Refinement):
    """A residual of three convolutions on each mask's logits, 0 at first; it sees no boundary."""

    def __init__(self, *, channels: int = 12) -> None:
        super().__init__()
        first = nn.Conv2d(1, channels, 3, padding=1)
        second = nn.Conv2d(channels, channels, 3, padding=1)
        last = nn.Conv2d(channels, 1, 3, padding=1)
        self.convs = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last)
        initialise(self.convs[:-1], partial(nn.init.kaiming_normal_, nonlinearity="relu"))
        initialise(last, nn.init.zeros_)

    def states(self, logits: Tensor, boundary: Tensor | None) -> Iterator[Tensor]:
        residual: Tensor = self.convs(logits[:, None])[:, 0]
        yield logits + residual.float()


class BoundaryDiffusion(Refinement):
    """A few steps of diffusion of mask logits, slow where the boundary map is high.

    Anisotropic diffusion (Perona and Malik, 1990) of each instance's logits x, with a predicted
    boundary b in place of the image's gradient: in a step x_p gains rate · Σ_q g_pq (x_q - x_p)
    over its four neighbours q, where g_pq = exp(-sharpness · min(b_p, b_q)): a two-sided boundary
    marks both cells of an edge that must not be crossed. Two scalars are learned, in float32.

    The steps grow as in fast explicit diffusion (Grewenig, Weickert and Bruhn, 2010): n of them
    reach as far as (n² + n) / 3 equal ones, and together are as stable.

    Args:
        steps: n, 1 to 16: more would amplify rounding errors. Information travels as many cells.
        guided: Without, every conductance is 1: plain smoothing, a control.
    """

    def __init__(self, *, steps: int = 12, guided: bool = True) -> None:
        super().__init__()
        if not 1 <= steps <= 16:
            raise ValueError(f"steps {steps}: 1 to 16")
        self.steps = steps
        self.raw_rate = nn.Parameter(torch.tensor(0.0))
        self.raw_sharpness = nn.Parameter(torch.tensor(9.0)) if guided else None

    @property
    def rate(self) -> Tensor:
        """Of an equal step, in (0, ¼), where the explicit scheme is stable."""
        return 0.25 * self.raw_rate.sigmoid()

    @property
    def sizes(self) -> list[float]:
        """Of the steps, in units of the rate, ascending."""
        angle = math.pi / (4 * self.steps + 2)
        return [0.5 / math.cos((2 * i + 1) * angle) ** 2 for i in range(self.steps)]

    @property
    def sharpness(self) -> Tensor:
        """How much a certain boundary slows diffusion, at least 0; 0 if not guided."""
        raw = self.raw_sharpness
        return torch.zeros_like(self.raw_rate) if raw is None else F.softplus(raw)

    def states(self, logits: Tensor, boundary: Tensor | None) -> Iterator[Tensor]:
        with torch.autocast(logits.device.type, enabled=False):
            x = logits.float()
            b = (torch.zeros_like(x[:1]) if boundary is None else boundary.float()).sigmoid()
            # Conductance of each cell with the one below, N×(h-1)×w, and beside it, N×h×(w-1).
            sharpness = self.sharpness
            down = self.rate * (-sharpness * torch.minimum(b[:, 1:], b[:, :-1])).exp()
            across = self.rate * (-sharpness * torch.minimum(b[..., 1:], b[..., :-1])).exp()
            for size in self.sizes:
                x = x + size * _inflow(x, down, across)
                yield x


def _inflow(x: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """What each cell gains from its neighbours; nothing flows across the frame."""
    rows = down * (x[:, 1:] - x[:, :-1])
    columns = across * (x[:, :, 1:] - x[:, :, :-1])
    vertical = F.pad(rows, (0, 0, 0, 1)) - F.pad(rows, (0, 0, 1, 0))
    return vertical + F.pad(columns, (0, 1)) - F.pad(columns, (1, 0))
