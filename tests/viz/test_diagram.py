from __future__ import annotations

from collections import Counter
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation

from b2inst.viz.diagram import diagram_figure
from b2inst.viz.wiring import Wiring

LEVELS = (4, 8, 16)
PLAIN = Wiring(levels=LEVELS, num_bases=3, bases_read=(4,))
DESIGN = replace(PLAIN, boundary_read=(4,), loss="image", in_masks=True)
RED = "#cc0000"


def drawn(wiring: Wiring) -> Axes:
    return diagram_figure({"x": wiring}).axes[0]


def words(axis: Axes) -> set[str]:
    return {text.get_text().replace("\n", " ") for text in axis.texts} - {""}


def tiles(axis: Axes) -> Counter[str]:
    """Colours of the unit squares."""
    squares = [p for p in axis.patches if isinstance(p, Rectangle) and p.get_width() == 1.0]
    return Counter(to_hex(square.get_facecolor()) for square in squares)


def arrows(axis: Axes) -> Counter[str]:
    found = [t for t in axis.texts if isinstance(t, Annotation) and t.arrow_patch is not None]
    return Counter(to_hex(arrow.arrow_patch.get_edgecolor()) for arrow in found)


def test_a_baseline_has_its_levels_and_bases_and_nothing_red() -> None:
    axis = drawn(PLAIN)
    assert words(axis) == {"1/4", "1/8", "1/16", "basis head", "compose masks"}
    assert tiles(axis).total() == 3
    assert RED not in tiles(axis) | arrows(axis)


def test_the_boundary_is_red_and_its_loss_is_said() -> None:
    axis = drawn(DESIGN)
    assert tiles(axis)[RED] == 1
    assert tiles(axis).total() == 4
    assert {"boundary branch", "loss over the image"} <= words(axis)
    assert "loss in each box" in words(drawn(replace(DESIGN, loss="boxes")))
    assert not any("loss" in text for text in words(drawn(replace(DESIGN, loss=None))))


def test_each_connection_is_an_arrow() -> None:
    before = arrows(drawn(DESIGN))[RED]
    assert arrows(drawn(replace(DESIGN, boundary_read=LEVELS)))[RED] == before + 2
    assert arrows(drawn(replace(DESIGN, in_masks=False)))[RED] == before - 1
    more = arrows(drawn(replace(DESIGN, bases_read=(4, 8)))) - arrows(drawn(DESIGN))
    assert more.total() == 1


def test_levels_that_nothing_reads_are_pale() -> None:
    axis = drawn(replace(DESIGN, bases_read=(4,), boundary_read=(4, 16)))
    colours = {text.get_text(): text.get_color() for text in axis.texts}
    assert colours["1/4"] == colours["1/16"] != colours["1/8"]


def test_a_shared_head_is_one_box() -> None:
    found = words(drawn(replace(DESIGN, shared=True)))
    assert "shared head" in found
    assert not {"basis head", "boundary branch"} & found


def test_many_bases_stay_before_the_masks() -> None:
    axis = drawn(replace(PLAIN, num_bases=32))
    squares = [p for p in axis.patches if isinstance(p, Rectangle) and p.get_width() == 1.0]
    assert len(squares) == 32
    assert max(square.get_x() + 1 for square in squares) < 7.9


def test_models_stand_side_by_side_under_their_names() -> None:
    figure = diagram_figure({"one": PLAIN, "two": DESIGN, "three": PLAIN, "four": DESIGN})
    assert [axis.get_title() for axis in figure.axes] == ["one", "two", "three", "four", "", ""]
    tops = [round(axis.get_subplotspec().rowspan.start) for axis in figure.axes]
    assert tops == [0, 0, 0, 1, 1, 1]
