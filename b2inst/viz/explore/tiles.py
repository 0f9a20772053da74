"""Sheets of pictures, drawn fast enough to follow a slider: one Matplotlib axes holds them all."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from b2inst.viz.draw import Picture

PLAIN = "#444444"  #: frame and title of a tile
BOUNDARY = "#D55E00"  #: all that is the boundary's (Okabe and Ito's vermilion)

_WIDTH = 1100  # pixels of a sheet
_DPI = 100
_LABEL = 128  # pixels to the left of the tiles
_GAP = 10
_LINE_HEIGHT = 18
_LARGEST = 170


@dataclass(frozen=True)
class Tile:
    """A picture with a line above and a line below it."""

    picture: Picture
    title: str = ""
    note: str = ""
    accent: str = PLAIN


@dataclass(frozen=True)
class Row:
    """Tiles side by side; the label's first line is its title."""

    label: str
    tiles: Sequence[Tile]


def tile_side(columns: int) -> int:
    """Pixels across of each of so many tiles in a row."""
    return min((_WIDTH - _LABEL) // max(columns, 1) - _GAP, _LARGEST)


def sheet(rows: Sequence[Row]) -> Figure:
    """Rows of tiles as one figure, 1100 pixels wide at 100 dpi."""
    heights = [_height(row) for row in rows]
    canvas = np.full((sum(heights), _WIDTH, 3), 255, dtype=np.uint8)
    figure = Figure(figsize=(_WIDTH / _DPI, len(canvas) / _DPI), dpi=_DPI, facecolor="white")
    y = 0
    for row, height in zip(rows, heights, strict=True):
        top = y + _LINE_HEIGHT * _has(row, "title")
        title, *lines = row.label.split("\n")
        text = [*textwrap.wrap(title, 17), *(w for line in lines for w in textwrap.wrap(line, 20))]
        _write(figure, 2, top, "\n".join(text), va="top", linespacing=1.4)
        x = _LABEL
        for tile in row.tiles:
            _place(canvas, tile, x, top)
            _caption(figure, tile, x, top)
            x += tile.picture.shape[1] + _GAP
        y += height
    figure.figimage(canvas)  # one for all, pixel by pixel: a picture each would be resampled
    return figure


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, pil_kwargs={"compress_level": 1})
    return buffer.getvalue()


def _place(canvas: Picture, tile: Tile, x: int, y: int) -> None:
    """The picture in a frame, thick where its colour says something."""
    height, width = tile.picture.shape[:2]
    frame = 1 if tile.accent == PLAIN else 3
    around = canvas[y - frame : y + height + frame, x - frame : x + width + frame]
    around[:] = np.array(to_rgb(tile.accent)) * 255
    canvas[y : y + height, x : x + width] = tile.picture


def _caption(figure: Figure, tile: Tile, x: int, y: int) -> None:
    below = y + tile.picture.shape[0] + 5
    weight = "normal" if tile.accent == PLAIN else "bold"
    title = textwrap.shorten(tile.title, max(tile.picture.shape[1] // 6, 9), placeholder="…")
    _write(figure, x, y - 6, title, color=tile.accent, weight=weight)
    _write(figure, x, below, tile.note, va="top")


def _write(figure: Figure, x: int, y: int, text: str, **style: Any) -> None:
    """Text at a pixel, counted from the top."""
    height = figure.get_figheight() * _DPI
    plain: dict[str, Any] = {"fontsize": 8, "color": "#222222"}
    figure.text(x / _WIDTH, 1 - y / height, text, **plain | style)


def _height(row: Row) -> int:
    tallest = max((tile.picture.shape[0] for tile in row.tiles), default=0)
    lines = _has(row, "title") + _has(row, "note")
    return tallest + _LINE_HEIGHT * lines + _GAP


def _has(row: Row, field: str) -> bool:
    return any(getattr(tile, field) for tile in row.tiles)
