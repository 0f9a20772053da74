"""Sheets of pictures with words around them, drawn fast enough to follow a slider."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont

from b2inst.viz.draw import Picture

PLAIN = "#444444"  #: frame and title of a tile
BOUNDARY = "#D55E00"  #: all that is the boundary's (Okabe and Ito's vermilion)

_WIDTH = 1100  # pixels of a sheet
_FONT = 11  # pixels
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


def sheet(rows: Sequence[Row]) -> Image.Image:
    """Rows of tiles as one picture, 1100 pixels wide."""
    heights = [_height(row) for row in rows]
    canvas = np.full((sum(heights), _WIDTH, 3), 255, dtype=np.uint8)
    words: list[_Words] = []
    y = 0
    for row, height in zip(rows, heights, strict=True):
        top = y + _LINE_HEIGHT * _has(row, "title")
        title, *lines = row.label.split("\n")
        text = [*textwrap.wrap(title, 17), *(w for line in lines for w in textwrap.wrap(line, 20))]
        words.append(_Words(2, top, "\n".join(text)))
        x = _LABEL
        for tile in row.tiles:
            _place(canvas, tile, x, top)
            words += _captions(tile, x, top)
            x += tile.picture.shape[1] + _GAP
        y += height
    drawn = Image.fromarray(canvas)
    pen = ImageDraw.Draw(drawn)
    for word in words:
        font = _font(word.bold)
        pen.text((word.x, word.y), word.text, word.colour, font, word.anchor, spacing=5)
    return drawn


def png(picture: Image.Image) -> bytes:
    """A picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


@dataclass(frozen=True)
class _Words:
    x: int
    y: int
    text: str
    colour: str = "#222222"
    bold: bool = False
    anchor: str = "la"  #: Pillow's: left and top of the letters; "ls" is left and base line


@cache
def _font(bold: bool) -> ImageFont.FreeTypeFont:
    # Matplotlib brings this one along, so that it is the same everywhere.
    family = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return ImageFont.truetype(findfont(family), _FONT)


def _place(canvas: Picture, tile: Tile, x: int, y: int) -> None:
    """The picture in a frame, thick where its colour says something."""
    height, width = tile.picture.shape[:2]
    frame = 1 if tile.accent == PLAIN else 3
    around = canvas[y - frame : y + height + frame, x - frame : x + width + frame]
    around[:] = np.array(to_rgb(tile.accent)) * 255
    canvas[y : y + height, x : x + width] = tile.picture


def _captions(tile: Tile, x: int, y: int) -> list[_Words]:
    title = textwrap.shorten(tile.title, max(tile.picture.shape[1] // 6, 9), placeholder="…")
    below = y + tile.picture.shape[0] + 4
    return [
        _Words(x, y - 6, title, tile.accent, bold=tile.accent != PLAIN, anchor="ls"),
        _Words(x, below, tile.note),
    ]


def _height(row: Row) -> int:
    tallest = max((tile.picture.shape[0] for tile in row.tiles), default=0)
    lines = _has(row, "title") + _has(row, "note")
    return tallest + _LINE_HEIGHT * lines + _GAP


def _has(row: Row, field: str) -> bool:
    return any(getattr(tile, field) for tile in row.tiles)
