"""Models as small diagrams, in the manner of the paper's Fig. 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from b2inst.viz.figure import ROW_COLOURS, new_figure
from b2inst.viz.wiring import Wiring

# Fig. 3: "Green, Yellow, Orange, Blue, and Red images represent the original basis. The Red image
# represents the additional image boundary basis."
_BASES = (ROW_COLOURS[3], ROW_COLOURS[7], ROW_COLOURS[2], ROW_COLOURS[1])
_BOUNDARY, _PALE = "#CC0000", "#FBE3E3"
_LINE = "#333333"
_IDLE = "#BBBBBB"

_TOP, _LOW = 4.5, 1.4  # heights of the bases' and of the boundary's road


def diagram_figure(wirings: Mapping[str, Wiring], *, columns: int = 3) -> Figure:
    """A diagram for each model, side by side.

    Args:
        wirings: name → what ``find_wiring`` found.
    """
    columns = min(columns, len(wirings))
    rows = -(-len(wirings) // columns)
    figure = new_figure(3.5 * columns, 2.35 * rows)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    for axis, (name, wiring) in zip(axes, wirings.items(), strict=False):
        axis.set_title(name, fontsize=9)
        axis.set(xlim=(0, 10), ylim=(0, 6.2))
        draw_wiring(axis, wiring)
    return figure


def draw_wiring(axis: Axes, wiring: Wiring) -> None:
    """Pyramid → heads → bases → masks; the boundary in red, its loss dashed."""
    _pyramid(axis, wiring)
    boundary = bool(wiring.boundary_read)
    if boundary and wiring.shared:
        _box(axis, 2.9, 0.5, 1.5, 5.0, "shared\nhead")
    else:
        _box(axis, 2.9, _TOP - 0.7, 1.5, 1.4, "basis\nhead")
    _wires(axis, wiring, wiring.bases_read, _TOP, _LINE)
    _arrow(axis, (4.4, _TOP), (5.2, _TOP))
    for i in range(wiring.num_bases):
        back = i / max(wiring.num_bases - 1, 1)
        _tile(axis, 5.2 + 0.84 * back, _TOP - 0.7 + 0.3 * back, _BASES[i % len(_BASES)])
    _box(axis, 7.9, _TOP - 0.6, 1.6, 1.2, "compose\nmasks")
    _arrow(axis, (7.04, _TOP), (7.9, _TOP))
    if not boundary:
        return
    if not wiring.shared:
        _box(axis, 2.9, _LOW - 0.7, 1.5, 1.4, "boundary\nbranch", _BOUNDARY)
    _wires(axis, wiring, wiring.boundary_read, _LOW, _BOUNDARY)
    _arrow(axis, (4.4, _LOW), (5.2, _LOW), _BOUNDARY)
    _tile(axis, 5.2, _LOW - 0.5, _BOUNDARY)
    if wiring.in_masks:
        axis.plot([5.7, 5.7, 8.7], [_LOW + 0.5, 3.0, 3.0], color=_BOUNDARY, lw=1.2)
        _arrow(axis, (8.7, 2.98), (8.7, _TOP - 0.6), _BOUNDARY)
    if wiring.loss is not None:
        _loss(axis, wiring.loss)


def _pyramid(axis: Axes, wiring: Wiring) -> None:
    """All levels, the finest lowest and widest; those that nothing here reads are pale."""
    read = {*wiring.bases_read, *wiring.boundary_read}
    for i, stride in enumerate(wiring.levels):
        width = 1.7 - 0.24 * i
        colour = _LINE if stride in read else _IDLE
        y = _level(wiring, stride)
        axis.add_patch(
            Rectangle((1.0 - width / 2, y - 0.27), width, 0.54, fill=False, ec=colour, lw=1)
        )
        axis.text(1.0, y, f"1/{stride}", fontsize=6, ha="center", va="center", color=colour)


def _wires(axis: Axes, wiring: Wiring, read: Sequence[int], to: float, colour: str) -> None:
    """From each level that is read to a head."""
    for stride in read:
        edge = 1.0 + (1.7 - 0.24 * wiring.levels.index(stride)) / 2
        shift = 0.12 if colour == _BOUNDARY else -0.12
        _arrow(axis, (edge, _level(wiring, stride) - shift), (2.9, to), colour)


def _level(wiring: Wiring, stride: int) -> float:
    """Height of a level."""
    return 3.0 + 0.85 * (wiring.levels.index(stride) - (len(wiring.levels) - 1) / 2)


def _loss(axis: Axes, where: str) -> None:
    """An image of two objects: red is what the loss looks at."""
    x, y = 7.6, 0.65
    outside, frame = (_PALE, _BOUNDARY) if where == "image" else ("white", _IDLE)
    axis.plot([6.2, x], [_LOW, _LOW], color=_BOUNDARY, linestyle=(0, (3, 2)), linewidth=1.2)
    axis.add_patch(Rectangle((x, y), 2.2, 1.5, fc=outside, ec=frame))
    for left, low, side in ((0.25, 0.3, 0.8), (1.25, 0.55, 0.65)):
        axis.add_patch(Rectangle((x + left, y + low), side, side, fc=_PALE, ec=_BOUNDARY, lw=0.9))
    words = "over the image" if where == "image" else "in each box"
    axis.text(x + 1.1, y - 0.08, f"loss {words}", fontsize=6.5, ha="center", va="top")


def _box(
    axis: Axes, x: float, y: float, width: float, height: float, words: str, colour: str = _LINE
) -> None:
    axis.add_patch(Rectangle((x, y), width, height, fc="white", ec=colour, lw=1.2, zorder=2))
    axis.text(x + width / 2, y + height / 2, words, fontsize=6.5, ha="center", va="center")


def _tile(axis: Axes, x: float, y: float, colour: str) -> None:
    axis.add_patch(Rectangle((x, y), 1.0, 1.0, fc=colour, ec="white", lw=0.8, zorder=2))


def _arrow(
    axis: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = _LINE
) -> None:
    style = {"arrowstyle": "-|>", "color": colour, "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", end, start, arrowprops={**style, "mutation_scale": 8})
