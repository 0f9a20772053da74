from __future__ import annotations

import numpy as np

from b2inst.viz.grid import picture_grid


def test_rows_stand_side_by_side_and_may_be_shorter() -> None:
    pictures = [np.full((4, 6, 3), value, dtype=np.uint8) for value in range(5)]
    rows = [[pictures[0], pictures[1]], [pictures[2]], [pictures[3], pictures[4]]]
    figure = picture_grid(rows, ["left", "right"], ["a", "b", "c"], across=2, note="by rule")
    assert [axis.get_title() for axis in figure.axes[:4]] == ["left", "right"] * 2
    shown = [[int(p.get_array().max()) for p in axis.images] for axis in figure.axes]
    assert shown == [[0], [1], [2], [], [3], [4], [], []]
    assert [axis.get_ylabel() for axis in figure.axes] == ["a", "", "b", "", "c", "", "", ""]
    assert figure.get_supxlabel() == "by rule"


def test_no_rows_give_an_empty_figure() -> None:
    assert len(picture_grid([], ["left"], []).axes) == 1
