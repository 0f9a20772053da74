from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from b2inst.structures import Instances
from b2inst.viz.draw import draw_heat, draw_instances, draw_masks, enlarge, palette


@pytest.fixture
def picture() -> np.ndarray:
    return np.full((24, 32, 3), 100, dtype=np.uint8)


def square(top: int, left: int, side: int, size: tuple[int, int] = (24, 32)) -> torch.Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[top : top + side, left : left + side] = True
    return mask


def instances(masks: torch.Tensor, scores: list[float]) -> Instances:
    boxes = [
        [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
        for rows, cols in (mask.nonzero(as_tuple=True) for mask in masks)
    ]
    return Instances(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor(scores),
        class_scores=torch.tensor(scores),
        labels=torch.zeros(len(scores), dtype=torch.int64),
        masks=masks,
        class_names=("gear",),
    )


def test_palette_colours_are_distinct() -> None:
    assert len(set(palette(40))) == 40


def test_enlarge_repeats_whole_pixels(picture: np.ndarray) -> None:
    picture[3, 5] = 7
    big = enlarge(picture, 50)
    assert big.shape == (72, 96, 3)  # 24 → 3 × 24, the first multiple of at least 50
    assert (big[9:12, 15:18] == 7).all()
    assert (big == 7).all(-1).sum() == 9


def test_large_pictures_stay_as_they_are(picture: np.ndarray) -> None:
    np.testing.assert_array_equal(enlarge(picture, 10), picture)


@given(st.integers(1, 60), st.integers(1, 5000), st.booleans(), st.integers(1, 600))
def test_enlarged_pictures_are_bounded(height: int, width: int, turned: bool, side: int) -> None:
    if turned:
        height, width = width, height
    big = enlarge(np.zeros((height, width, 3), np.uint8), side)
    factor = big.shape[0] // height
    assert big.shape == (factor * height, factor * width, 3)
    assert factor == 1 or max(big.shape) <= 4096
    enough = min(big.shape[:2]) >= side
    assert enough or (factor + 1) * max(height, width) > 4096
    assert factor == 1 or (factor - 1) * min(height, width) < side, "no larger than asked for"


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (10, 3000), (1, 1)])
def test_drawings_of_long_thin_images(size: tuple[int, int]) -> None:
    mask = torch.ones((1, *size), dtype=torch.bool)
    drawn = draw_instances(np.zeros((*size, 3), np.uint8), instances(mask, [0.9]))
    assert max(drawn.shape) <= max(4096, *size)
    assert (drawn > 0).any()


def test_tint_mixes_inside_and_leaves_the_rest(picture: np.ndarray) -> None:
    mask = square(4, 6, 12)
    drawn = draw_masks(picture, mask[None], [(200, 0, 50)], opacity=0.5)
    assert drawn[10, 12].tolist() == [150, 50, 75]  # halfway between 100 and the colour
    assert drawn[4, 6].tolist() == [200, 0, 50]  # the outline is opaque
    outside = ~mask.numpy()
    np.testing.assert_array_equal(drawn[outside], picture[outside])
    assert (picture == 100).all(), "the given picture is not changed"


def test_first_mask_is_on_top_where_masks_overlap(picture: np.ndarray) -> None:
    masks = torch.stack([square(2, 2, 14), square(6, 6, 14)])
    drawn = draw_masks(picture, masks, [(255, 0, 0), (0, 0, 255)], opacity=1.0)
    assert drawn[10, 10].tolist() == [255, 0, 0]
    assert drawn[18, 18].tolist() == [0, 0, 255]


def test_an_empty_mask_leaves_the_picture(picture: np.ndarray) -> None:
    masks = torch.stack([square(0, 0, 0), square(6, 6, 14)])
    drawn = draw_masks(picture, masks, [(255, 0, 0), (0, 0, 255)])
    np.testing.assert_array_equal(drawn, draw_masks(picture, masks[1:], [(0, 0, 255)]))


def test_no_masks_gives_the_picture(picture: np.ndarray) -> None:
    drawn = draw_masks(picture, torch.zeros((0, 24, 32), dtype=torch.bool), [])
    np.testing.assert_array_equal(drawn, picture)


def test_weak_instances_are_left_out(picture: np.ndarray) -> None:
    found = instances(torch.stack([square(2, 2, 8), square(12, 20, 8)]), [0.9, 0.1])
    drawn = draw_instances(picture, found, score_threshold=0.3, side=1, captions=False)
    assert (drawn[3, 3] != 100).any()
    assert (drawn[12:20, 20:28] == 100).all()


def test_instances_keep_their_colour_when_others_are_left_out(picture: np.ndarray) -> None:
    found = instances(torch.stack([square(2, 2, 8), square(12, 20, 8)]), [0.1, 0.9])
    drawn = draw_instances(
        picture, found, colours=[(255, 0, 0), (0, 255, 0)], side=1, captions=False
    )
    assert drawn[12, 20].tolist() == [0, 255, 0]


@pytest.mark.parametrize("count", [0, 2])
def test_captions_on_small_pictures_are_drawn_enlarged(picture: np.ndarray, count: int) -> None:
    masks = torch.stack([square(2, 2, 8), square(12, 20, 8)])[:count]
    plain = draw_instances(picture, instances(masks, [0.9, 0.8][:count]), captions=False)
    captioned = draw_instances(picture, instances(masks, [0.9, 0.8][:count]))
    assert captioned.shape == plain.shape == (384, 512, 3)
    assert (captioned != plain).any() == (count > 0)


def test_heat_spans_the_colour_map() -> None:
    heat = draw_heat(torch.tensor([[0.0, 1.0]]), (8, 16), colours="gray")
    assert heat.shape == (8, 16, 3)
    assert heat[0, 0].tolist() == [0, 0, 0]
    assert heat[0, -1].tolist() == [255, 255, 255]
    assert (np.diff(heat[0, :, 0].astype(int)) >= 0).all()
