"""The widgets that the panel is made of, all of one look."""

from __future__ import annotations

import html
from collections.abc import Sequence

import ipywidgets as widgets

WRAP = {"flex_flow": "row wrap"}  #: layout of controls side by side
_STYLE = {"description_width": "110px"}
_WIDE = {"width": "520px"}


def picture() -> widgets.Image:
    """A place for a sheet."""
    return widgets.Image(format="png", width=1100, layout={"max_width": "100%"})


def paragraphs(lines: Sequence[str], strong: Sequence[str] = ()) -> str:
    """Lines of text as HTML, those that are strong after the others."""
    text = "".join(f"<p style='margin:2px 0'>{html.escape(line)}</p>" for line in lines)
    text += "".join(f"<p style='margin:2px 0'><b>{html.escape(line)}</b></p>" for line in strong)
    return f"<div style='max-width:1060px; line-height:1.45'>{text}</div>"


def heading(text: str) -> widgets.HTML:
    """Of a section."""
    return widgets.HTML(heading_text(text))


def heading_text(text: str) -> str:
    """The same as HTML, for a widget whose text changes."""
    return f"<h3 style='margin:14px 0 2px'>{html.escape(text)}</h3>"


def dropdown(description: str, options: Sequence[str], value: str) -> widgets.Dropdown:
    """A choice by name."""
    return widgets.Dropdown(
        description=description, options=options, value=value, style=_STYLE, layout=_WIDE
    )


def whole(description: str, low: int, high: int, value: int) -> widgets.IntSlider:
    """A slider over whole numbers."""
    return widgets.IntSlider(
        description=description, min=low, max=high, value=value, style=_STYLE, layout=_WIDE
    )


def decimal(description: str, value: float) -> widgets.FloatSlider:
    """A slider from 0 to 2 in tenths."""
    return widgets.FloatSlider(
        description=description,
        min=0.0,
        max=2.0,
        step=0.1,
        value=value,
        style={"description_width": "initial"},
        layout={"width": "330px"},
    )
