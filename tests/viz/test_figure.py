from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from b2inst.viz.figure import new_figure, save_print


def test_print_has_text_as_text_and_equal_figures_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        figure = new_figure(3, 2)
        figure.subplots().set_title("boundary basis")
        assert save_print(figure, tmp_path / f"{name}.png") == tmp_path / f"{name}.png"
    pdf = (tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert pdf == (tmp_path / "b.pdf").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (600, 400)


def test_a_png_is_small_enough_to_be_committed(tmp_path: Path) -> None:
    figure = new_figure(5.5, 5.5)
    noise = np.random.default_rng(0).integers(0, 255, (1100, 1100, 3), dtype=np.uint8)
    figure.subplots().imshow(noise)
    path = save_print(figure, tmp_path / "noise.png")
    assert path.stat().st_size <= 2**20
