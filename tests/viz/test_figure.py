from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from b2inst.viz.figure import new_figure, picture_figure, picture_grid, save_print


def test_print_has_text_as_text_and_equal_figures_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        figure = new_figure(3, 2)
        figure.subplots().set_title("boundary basis")
        assert save_print(figure, tmp_path / f"{name}.png") == tmp_path / f"{name}.png"
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert pdf == (tmp_path / "b.pdf").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (450, 300)


def test_a_png_is_small_enough_to_be_committed(tmp_path: Path) -> None:
    figure = new_figure(5.5, 5.5)
    noise = np.random.default_rng(0).integers(0, 255, (1100, 1100, 3), dtype=np.uint8)
    figure.subplots().imshow(noise)
    path = save_print(figure, tmp_path / "noise.png")
    assert path.stat().st_size <= 2**20


@pytest.mark.parametrize(
    ("given", "shown"),
    [((40, 60), (40, 60)), ((2000, 4000), (500, 1000)), ((3000, 1500), (1000, 500))],
)
def test_a_notebook_shows_a_picture_as_it_is_but_not_huge(
    given: tuple[int, int], shown: tuple[int, int]
) -> None:
    picture = np.zeros((*given, 3), dtype=np.uint8)
    picture[: given[0] // 2] = (250, 20, 10)
    data, _ = DisplayFormatter().format(picture_figure(picture, size=given))
    pixels = np.asarray(Image.open(io.BytesIO(data["image/png"])).convert("RGB"))
    assert pixels.shape == (*shown, 3)
    assert pixels[5, 5].tolist() == [250, 20, 10]
    assert pixels[-5, -5].tolist() == [0, 0, 0]


def test_axes_count_the_pixels_they_are_told() -> None:
    axes = picture_figure(np.zeros((80, 120, 3), np.uint8), size=(40, 60)).axes[0]
    assert axes.get_xlim() == (0, 60)
    assert axes.get_ylim() == (40, 0)


def test_rows_stand_side_by_side() -> None:
    pictures = [np.full((4, 6, 3), value, dtype=np.uint8) for value in range(6)]
    rows = [pictures[:2], pictures[2:4], pictures[4:]]
    figure = picture_grid(rows, ["left", "right"], ["a", "b", "c"], across=2, note="by rule")
    assert [axis.get_title() for axis in figure.axes[:4]] == ["left", "right"] * 2
    shown = [[int(p.get_array().max()) for p in axis.images] for axis in figure.axes]
    assert shown == [[0], [1], [2], [3], [4], [5], [], []]
    assert [axis.get_ylabel() for axis in figure.axes] == ["a", "", "b", "", "c", "", "", ""]
    assert figure.get_supxlabel() == "by rule"


def test_no_rows_give_an_empty_figure() -> None:
    assert len(picture_grid([], ["left"], []).axes) == 1
