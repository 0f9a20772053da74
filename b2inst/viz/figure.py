"""What the figures share: Matplotlib without global state, small PNG files."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

#: Okabe and Ito's colours, told apart by colour-blind readers too: one a row of a table.
ROW_COLOURS = (
    "#000000",
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
)


def new_figure(width: float, height: float) -> Figure:
    """A figure of the given inches; it belongs to no pyplot, so any process or thread may draw."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def save_figure(figure: Figure, path: str | Path, *, dpi: int = 110) -> Path:
    """Write a PNG of at most 256 colours, small enough to commit; equal figures, equal bytes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    image = Image.open(buffer).convert("RGB")
    few = image.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(path, format="PNG", optimize=True)
    return path
