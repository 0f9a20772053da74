"""What the figures share: Matplotlib without global state, small PNG files."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from PIL import Image

#: Okabe and Ito's colours, distinguishable by colour-blind readers too: one a row of a table.
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

#: Pixels an inch of pictures in print.
PRINT_DPI = 200

_COMMITTED = 2**20  # bytes of a PNG at most


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


def save_print(figure: Figure, path: str | Path) -> Path:
    """Write a PDF for print, with its text as text in embedded fonts, and a PNG of its name.

    The PNG has at most 1 MiB: where ``PRINT_DPI`` gives more, fewer pixels are taken.

    Args:
        path: of the PNG; the PDF has its ending.

    Returns:
        The PNG.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"pdf.fonttype": 42}):  # TrueType: text can be searched and edited
        dated = {"CreationDate": None}  # equal figures, equal bytes
        figure.savefig(path.with_suffix(".pdf"), dpi=PRINT_DPI, metadata=dated)
    dpi = PRINT_DPI
    while save_figure(figure, path, dpi=dpi).stat().st_size > _COMMITTED:
        dpi = dpi * 3 // 4
    return path
