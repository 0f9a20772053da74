"""A drawn figure with what must be known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from b2inst.viz.choose import Choice
from b2inst.viz.paper.material import TrainedModel


@dataclass(frozen=True)
class Drawing:
    """A figure, not yet written."""

    caption: str  #: what it shows, which figure of the paper it is, how images were chosen
    figure: Figure
    models: Sequence[TrainedModel]
    choices: Sequence[Choice] = ()
    counts: dict[str, Any] = field(default_factory=dict)  #: numbers in it, for machines
