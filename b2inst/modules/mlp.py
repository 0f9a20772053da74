"""Two fully connected layers."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def mlp(
    inputs: int, hidden: int, outputs: int | None = None, *, norm: Callable[[int], nn.Module]
) -> list[nn.Module]:
    """Layers of a perceptron: two of ``hidden`` units, each with norm and ReLU, and a linear one.

    Args:
        inputs: features that go in.
        hidden: width of the two layers.
        outputs: of the linear layer; None leaves it out.
        norm: builds a norm from a width.
    """
    layers: list[nn.Module] = []
    for width in (inputs, hidden):
        layers += [nn.Linear(width, hidden), norm(hidden), nn.ReLU()]
    return layers if outputs is None else [*layers, nn.Linear(hidden, outputs)]
