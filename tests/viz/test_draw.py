from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.utils import draw_bounding_boxes

from b2inst.structures import Instances
from b2inst.viz.draw import (
    PALETTE,
    contrasting_colours,
    draw_heat,
    draw_instances,
    draw_masks,
    label_map,
)


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


def test_label_maps_have_the_better_score_on_top() -> None:
    """Whatever the order; what is hidden, or below the threshold, has no pixel."""
    masks = [square(0, 0, 10), square(5, 5, 10), square(6, 6, 2), square(20, 28, 4)]
    given = instances(torch.stack(masks), [0.6, 0.9, 0.5, 0.2])
    expected = np.zeros((24, 32))
    expected[:10, :10] = 2
    expected[5:15, 5:15] = 1  # over the third
    found = label_map(given.masks, given.scores, score_threshold=0.3)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, expected)
    assert label_map(given.masks, given.scores, score_threshold=0.2)[22, 30] == 4
    assert not label_map(given.masks, given.scores, score_threshold=1).any()


def test_colours_are_used_evenly_and_stand_out_from_what_they_cover(picture: np.ndarray) -> None:
    masks = torch.stack([square(2, 2 + k % 5, 8) for k in range(2 * len(PALETTE))])
    colours = contrasting_colours(picture, masks)
    assert all(colours.count(colour) == 2 for colour in PALETTE)
    for colour in PALETTE:
        picture[:] = colour
        assert contrasting_colours(picture, masks[:1]) != [colour]
        assert contrasting_colours(picture, masks[:7])[-1] == colour


def test_neighbours_have_different_colours() -> None:
    """Of objects in a row, those at most 4 pixels apart."""
    picture = np.zeros((20, 400, 3), np.uint8)
    masks = torch.stack([square(3, 14 * i, 12, (20, 400)) for i in range(28)])
    colours = contrasting_colours(picture, masks)
    assert set(colours) == set(PALETTE)
    assert all(one != other for one, other in pairwise(colours))


def test_given_colours_stay_and_others_differ_from_them(picture: np.ndarray) -> None:
    masks = torch.stack([square(2, 2, 8), square(2, 11, 8), square(0, 0, 0)])
    (alone,) = contrasting_colours(picture, masks[:1])
    chosen = contrasting_colours(picture, masks, fixed=[None, alone, None])
    assert chosen[1] == alone != chosen[0]
    assert len(set(chosen)) == 3
    assert contrasting_colours(picture, masks[:0]) == []


NOTHING = torch.zeros((0, 24, 32), dtype=torch.bool)


def test_small_pictures_are_enlarged_by_whole_pixels(picture: np.ndarray) -> None:
    picture[3, 5] = 7
    big = draw_masks(picture, NOTHING, [], side=50)
    assert big.shape == (72, 96, 3)  # 24 → 3 × 24, the first multiple of at least 50
    assert (big[9:12, 15:18] == 7).all()
    assert (big == 7).all(-1).sum() == 9
    np.testing.assert_array_equal(draw_masks(picture, NOTHING, [], side=10), picture)


@given(st.integers(1, 60), st.integers(1, 5000), st.booleans(), st.integers(1, 600))
def test_enlarged_pictures_are_bounded(height: int, width: int, turned: bool, side: int) -> None:
    if turned:
        height, width = width, height
    nothing = torch.zeros((0, height, width), dtype=torch.bool)
    big = draw_masks(np.zeros((height, width, 3), np.uint8), nothing, [], side=side)
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


@pytest.mark.parametrize("count", [50, 51])
def test_many_instances_are_outlines_alone(count: int) -> None:
    picture = np.full((80, 220, 3), 100, np.uint8)
    corners = [(16 * (k // 13) + 1, 16 * (k % 13) + 1) for k in range(count)]
    masks = torch.stack([square(top, left, 12, (80, 220)) for top, left in corners])
    found = instances(masks, [0.9] * count)
    drawn = draw_instances(picture, found, side=1)
    inside = torch.stack([square(top + 2, left + 2, 8, (80, 220)) for top, left in corners])
    assert (drawn[inside.any(0).numpy()] == 100).all() == (count > 50)
    outlines = draw_masks(picture, masks, contrasting_colours(picture, masks), opacity=0)
    assert (drawn == outlines).all() == (count > 50)
    weak = instances(masks, [0.9] * (count - 1) + [0.1])  # those that are not drawn do not count
    assert (draw_instances(picture, weak, side=1)[inside.any(0).numpy()] != 100).any()


def slowly(found: Instances, picture: np.ndarray, colours: list[tuple[int, int, int]], side: int):
    """What is drawn, pixel by pixel."""
    scale = max(-(-side // min(picture.shape[:2])), 1)
    drawn = picture.repeat(scale, 0).repeat(scale, 1)
    height, width = drawn.shape[:2]
    masks = found.masks.repeat_interleave(scale, 1).repeat_interleave(scale, 2).numpy()
    for y, x in np.ndindex(height, width):
        on = [i for i in range(len(found)) if masks[i, y, x]]
        around = [(v, u) for v in range(y - 2, y + 3) for u in range(x - 2, x + 3)]
        framed = not (2 <= y < height - 2 and 2 <= x < width - 2)
        edges = [i for i in on if framed or not all(masks[i, v, u] for v, u in around)]
        if edges:
            drawn[y, x] = colours[edges[0]]
        elif on:
            old, colour = drawn[y, x].astype(np.float32), np.float32(colours[on[0]])
            drawn[y, x] = np.floor(old * np.float32(0.55) + colour * np.float32(0.45))
    return drawn


@pytest.mark.parametrize("side", [1, 60])
def test_the_drawing_is_that_of_the_slow_way(side: int) -> None:
    """Of masks that overlap, have holes and touch the frame, of one pixel and of none."""
    rng = np.random.default_rng(0)
    masks = torch.zeros((9, 30, 37), dtype=torch.bool)
    for mask in masks[:7]:
        top, left = rng.integers(0, 25, 2)
        tall, wide = rng.integers(1, 16, 2)
        part = mask[top : top + tall, left : left + wide]
        part[:] = torch.from_numpy(rng.random(part.shape) < 0.98)
    masks[7, 29, 36] = True
    boxes = torch.tensor([[3.0, 4, 21, 30], [0, 0, 37, 30], [30, 20, 37, 30]]).repeat(3, 1)
    scores = torch.linspace(0.95, 0.55, 9)
    found = Instances(boxes, scores, scores, torch.zeros(9).long(), masks, class_names=("gear",))
    picture = rng.integers(0, 256, (30, 37, 3), dtype=np.uint8)
    colours = [(10, 20 * k, 250 - 20 * k) for k in range(9)]
    expected = slowly(found, picture, colours, side)
    drawn = draw_instances(picture, found, colours=colours, side=side, captions=False)
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize(("top", "left"), [(30, 20), (0, 20), (30, 190), (0, 196), (116, 0)])
def test_captions_lie_above_their_boxes_and_in_the_picture(top: int, left: int) -> None:
    picture = np.full((120, 200, 3), 100, np.uint8)
    found = instances(square(top, left, 4, (120, 200))[None], [0.9])
    colours = [(0, 114, 178)]
    plain = draw_instances(picture, found, colours=colours, captions=False)
    drawn = draw_instances(picture, found, colours=colours)
    boxes = (found.boxes * (drawn.shape[0] // 120)).round()
    pixels = torch.from_numpy(plain).permute(2, 0, 1)
    framed = draw_bounding_boxes(pixels, boxes, colors=colours).permute(1, 2, 0).numpy()
    changed = np.argwhere((drawn != framed).any(2))
    (high, first), (low, last) = changed.min(0), changed.max(0)
    width, height = last - first + 1, low - high + 1
    assert 10 <= height <= 20 <= 60 <= width, "a line of text, whole"
    assert low < boxes[0, 1] or high == 0
    assert first == boxes[0, 0] or last == drawn.shape[1] - 1


@pytest.mark.parametrize("name", ["gear\n", "\rgear", "a\ngear"])
def test_a_line_break_in_a_name_is_a_space(picture: np.ndarray, name: str) -> None:
    found = instances(square(6, 8, 9)[None], [0.9])
    drawn = draw_instances(picture, replace(found, class_names=(name,)))
    plain = draw_instances(picture, replace(found, class_names=(" ".join(name.splitlines()),)))
    np.testing.assert_array_equal(drawn, plain)


def test_heat_spans_the_colour_map() -> None:
    heat = draw_heat(torch.tensor([[0.0, 1.0]]), (8, 16))
    assert heat.shape == (8, 16, 3)
    expected = (matplotlib.colormaps["magma"]([0, 255])[:, :3] * 255).round()
    np.testing.assert_array_equal(heat[0, [0, -1]], expected)
