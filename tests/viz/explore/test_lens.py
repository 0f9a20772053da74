from __future__ import annotations

import numpy as np
import pytest
import torch

from b2inst.viz.explore.lens import LINE, Lens, coloured, common_limit, signed

IMAGE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)


def test_shades_mix_by_value_and_leave_out_what_is_unknown() -> None:
    lens = Lens.whole(IMAGE, 6)
    white = np.full((4, 6, 3), 255, dtype=np.uint8)
    values = np.zeros((4, 6))
    values[0], values[1] = 1.0, np.nan
    shaded = lens.shaded(white, values, "#000000")
    assert (shaded[0] == 102).all()  # three fifths of the way
    assert (shaded[1:] == 255).all()


def test_a_thick_outline_lies_on_both_sides() -> None:
    lens = Lens.whole(IMAGE, 6)
    mask = torch.zeros((4, 6), dtype=torch.bool)
    mask[:, :3] = True
    black = np.zeros((4, 6, 3), dtype=np.uint8)
    for thick, columns in ((False, [2]), (True, [2, 3])):
        drawn = lens.outlined(black, mask, "#FFFFFF", thick=thick)
        assert np.unique(drawn.nonzero()[1]).tolist() == columns


def test_the_whole_image_shows_each_pixel_as_it_is() -> None:
    lens = Lens.whole(IMAGE, 12)
    assert (lens.photo() == IMAGE.repeat(2, 0).repeat(2, 1)).all()
    tall = Lens.whole(IMAGE.transpose(1, 0, 2), 12)
    assert tall.photo().shape == (12, 8, 3)


def test_maps_of_other_grids_lie_where_they_say() -> None:
    grid = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])  # cells of 2×2 pixels
    lens = Lens(IMAGE, (1.0, 5.0, 1.0, 3.0), 4)
    assert lens.sample(grid, (0, 6, 0, 4)).tolist() == [[1, 2, 2, 3], [4, 5, 5, 6]]
    moved = lens.sample(grid, (2, 8, 2, 6))  # begins two pixels further
    assert np.isnan(moved[0]).all()
    assert np.isnan(moved[1, 0])
    assert moved[1, 1:].tolist() == [1, 1, 2]


def test_beyond_the_image_there_is_grey() -> None:
    around = Lens.around(IMAGE, (0, 0, 2, 2), 26)
    left, right, top, bottom = around.window
    assert (left + right, top + bottom) == (2, 2)  # centred on the box
    assert right - left == bottom - top >= 8
    picture = around.photo()
    assert picture.shape == (26, 26, 3)
    assert (picture[0, 0] == 236).all()
    assert (picture[13, 13] == IMAGE[1, 1]).all()


def test_signs_have_their_own_hues() -> None:
    negative, zero, positive, nothing = signed(np.array([[-3.0, 0.0, 3.0, np.nan]]), 3.0)[0]
    red, blue = 0, 2
    assert negative[red] > negative[blue]  # brown
    assert positive[blue] > positive[red]  # teal
    assert zero.min() > 240
    assert np.ptp(zero) <= 2
    assert (nothing == 236).all()
    beyond = signed(np.array([[30.0]]), 3.0)[0, 0]
    assert (beyond == positive).all()


def test_masks_are_tinted_where_they_are_and_outlined() -> None:
    white = np.full((8, 8, 3), 255, dtype=np.uint8)
    mask = torch.zeros((8, 8), dtype=torch.bool)
    mask[2:7, 2:7] = True
    lens = Lens.whole(white, 8)
    drawn = lens.tinted(lens.photo(), mask, "#0000ff", 0.5)
    assert (drawn[~mask.numpy()] == 255).all()
    assert drawn[4, 4].tolist() == [127, 127, 255]
    ring = mask.clone()
    ring[3:6, 3:6] = False
    assert (drawn[ring.numpy()] == [0, 0, 255]).all()
    only_line = lens.outlined(white, mask, "#0000ff")
    assert (only_line[4, 4] == 255).all()


def test_full_colour_is_for_nearly_the_largest_values() -> None:
    assert common_limit([np.array([1.0, -4.0]), np.array([np.nan, 2.0])]) == pytest.approx(
        4, rel=0.02
    )
    many = np.r_[np.full(999, 1.0), 100.0]
    assert common_limit([many]) == 1.0  # one value in a thousand does not decide
    assert common_limit([np.full(3, np.nan)]) == 1.0
    assert common_limit([np.zeros(3)]) > 0


def test_probabilities_by_a_colour_map() -> None:
    empty, full = coloured(np.array([[0.0, 1.0]]), LINE)[0]
    assert (empty == 255).all()
    assert full.sum() < 200
