from __future__ import annotations

import io

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from PIL import Image

from b2inst.viz.picture import picture_figure


@pytest.mark.parametrize(
    ("given", "shown"),
    [((40, 60), (40, 60)), ((2000, 4000), (500, 1000)), ((3000, 1500), (1000, 500))],
)
def test_a_notebook_shows_it_as_it_is_but_not_huge(
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
