from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask
from scipy import ndimage

from b2inst.ops.masks import (
    box_windows,
    covered,
    crop_masks,
    decode_rle,
    encode_rle,
    paste_masks,
    sample_rois,
    share_inside,
)

SIZE = (24, 31)
coordinates = st.floats(-20, 45, width=32)
boxes = st.tuples(coordinates, coordinates, st.floats(0.25, 40), st.floats(0.25, 40)).map(
    lambda b: torch.tensor([b[0], b[1], b[0] + b[2], b[1] + b[3]])
)


def sampled(soft: np.ndarray, box: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear samples of a soft mask at the centres of all pixels; zeros around the mask."""
    x1, y1, x2, y2 = box.astype(np.float64)
    side = len(soft)
    ys = (np.arange(size[0]) + 0.5 - y1) / (y2 - y1) * side - 0.5
    xs = (np.arange(size[1]) + 0.5 - x1) / (x2 - x1) * side - 0.5
    grid = np.meshgrid(ys, xs, indexing="ij")
    return ndimage.map_coordinates(
        soft.astype(np.float64), grid, order=1, mode="grid-constant", cval=0
    )


@given(boxes)
def test_window_holds_every_pixel_of_the_box_and_few_others(box: torch.Tensor) -> None:
    top, left, bottom, right = box_windows(box[None], SIZE)[0].tolist()
    x1, y1, x2, y2 = box.tolist()
    if top == bottom or left == right:
        assert x1 >= SIZE[1] or y1 >= SIZE[0] or x2 <= 0 or y2 <= 0
        return
    for first, last, low, high, end in (
        (top, bottom, y1, y2, SIZE[0]),
        (left, right, x1, x2, SIZE[1]),
    ):
        touched = [i for i in range(end) if i + 1 > low and i < high]
        assert set(touched) <= set(range(first, last))
        assert first >= max(low - 2, 0)
        assert last <= min(high + 2, end)


@given(boxes, st.integers(0, 99))
def test_a_window_of_a_pasted_mask_is_bilinear(box: torch.Tensor, seed: int) -> None:
    soft = np.random.default_rng(seed).random((7, 7), np.float32)
    rows, columns = (torch.arange(side)[None] for side in SIZE)
    (got,) = sample_rois(torch.from_numpy(soft)[None], box[None], rows, columns)
    assert got.shape == SIZE
    # Coordinates of up to 40/0.25 box sides are rounded in float32.
    np.testing.assert_allclose(got, sampled(soft, box.numpy(), SIZE), atol=2e-3)


@given(boxes, st.integers(0, 99))
def test_pasting_only_looks_at_the_box_but_misses_nothing(box: torch.Tensor, seed: int) -> None:
    soft = np.random.default_rng(seed).random((14, 14), np.float32)
    got = paste_masks(torch.from_numpy(soft)[None], box[None], SIZE)
    assert got.dtype == torch.bool
    expected = sampled(soft, box.numpy(), SIZE)
    certain = abs(expected - 0.5) > 2e-3
    assert (got[0].numpy() == (expected >= 0.5))[certain].all()


def test_half_belongs_to_the_mask() -> None:
    pasted = paste_masks(torch.full((1, 4, 4), 0.5), torch.tensor([[2.0, 1, 6, 5]]), (8, 8))
    assert pasted[0].nonzero().tolist() == [[y, x] for y in range(1, 5) for x in range(2, 6)]


@pytest.mark.parametrize(
    "box", [(3, 3, 3, 9), (3, 3, 9, 3), (9, 9, 3, 3), (50, 50, 60, 60), (-9, -9, -1, -1)]
)
def test_empty_and_outside_boxes_give_empty_masks(box: tuple[int, ...]) -> None:
    pasted = paste_masks(torch.ones(1, 5, 5), torch.tensor([box], dtype=torch.float32), SIZE)
    assert pasted.shape == (1, *SIZE)
    assert not pasted.any()


def test_no_masks() -> None:
    assert paste_masks(torch.zeros(0, 5, 5), torch.zeros(0, 4), SIZE).shape == (0, *SIZE)
    assert crop_masks(torch.zeros(0, *SIZE, dtype=torch.uint8), torch.zeros(0, 4), 7).shape == (
        (0, 7, 7)
    )


@given(
    st.integers(0, 99), st.integers(1, 4), st.integers(1, 4), st.integers(0, 6), st.integers(0, 4)
)
def test_a_crop_to_whole_blocks_is_their_majority(
    seed: int, high: int, wide: int, x: int, y: int
) -> None:
    """Adaptive sampling looks at every pixel once, so a bin is the mean of its pixels."""
    mask = np.random.default_rng(seed).random((24, 30)) < 0.5
    box = torch.tensor([[x, y, x + 5 * wide, y + 5 * high]], dtype=torch.float32)
    means = mask[y : y + 5 * high, x : x + 5 * wide].reshape(5, high, 5, wide).mean((1, 3))
    got = crop_masks(torch.from_numpy(mask)[None], box, 5)
    assert got.dtype == torch.float32
    assert got[0].numpy().tolist() == (means >= 0.5).astype(float).tolist()


def ellipse(
    size: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float]
) -> np.ndarray:
    ys, xs = np.mgrid[: size[0], : size[1]] + 0.5
    return ((ys - centre[0]) / radii[0]) ** 2 + ((xs - centre[1]) / radii[1]) ** 2 <= 1


@given(
    st.tuples(st.floats(0, 96), st.floats(0, 128)),
    st.tuples(st.floats(4, 40), st.floats(4, 40)),
    st.sampled_from([28, 56]),
)
def test_paste_undoes_crop(
    centre: tuple[float, float], radii: tuple[float, float], side: int
) -> None:
    """Also where the image's border cuts the object; IoU at least 0.85 from 4 pixels on."""
    mask = ellipse((96, 128), centre, radii)
    ys, xs = mask.nonzero()
    if len(ys) == 0 or np.ptp(ys) < 3 or np.ptp(xs) < 3:
        return
    box = torch.tensor([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], dtype=torch.float32)
    back = paste_masks(crop_masks(torch.from_numpy(mask)[None], box, side), box, mask.shape)
    back = back[0].numpy()
    assert (back & mask).sum() / (back | mask).sum() >= 0.85


@pytest.mark.parametrize("corner", [(0, 0), (95, 127), (40, 60), (0, 127)])
def test_one_pixel_survives_crop_and_paste(corner: tuple[int, int]) -> None:
    mask = torch.zeros(1, 96, 128, dtype=torch.uint8)
    mask[0, corner[0], corner[1]] = 1
    box = torch.tensor([[corner[1], corner[0], corner[1] + 1, corner[0] + 1]], dtype=torch.float32)
    crop = crop_masks(mask, box, 28)
    assert crop.mean() >= 0.25
    assert paste_masks(crop, box, (96, 128)).equal(mask.bool())


def test_many_large_bitmaps_are_never_float_together(largest_float: Callable[..., int]) -> None:
    masks = torch.ones(30, 800, 1333, dtype=torch.uint8)
    boxes = torch.tensor([[100.0, 100, 200, 160]]).expand(30, 4)
    assert largest_float(crop_masks, masks, boxes, 56) <= 8 * 800 * 1333


@given(hnp.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20))))
def test_rle_there_and_back(masks: np.ndarray) -> None:
    codes = encode_rle(torch.from_numpy(masks))
    assert [list(code["size"]) for code in codes] == [list(masks.shape[1:])] * len(masks)
    assert all(isinstance(code["counts"], str) for code in codes)
    as_bytes = [{**code, "counts": code["counts"].encode()} for code in codes]
    assert coco_mask.area(as_bytes).tolist() == masks.sum((1, 2)).tolist()
    assert decode_rle(codes).numpy().tolist() == masks.tolist()


@given(
    hnp.arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20))),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_codes_are_those_of_pycocotools(masks: np.ndarray, before: int, after: int) -> None:
    """Also with empty columns at either side."""
    masks = np.pad(masks, ((0, 0), (0, 0), (before, after)))
    expected = coco_mask.encode(np.asfortranarray(masks.transpose(1, 2, 0), np.uint8))
    got = encode_rle(torch.from_numpy(masks))
    assert [code | {"counts": code["counts"].encode()} for code in got] == expected


@given(hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_the_rectangle_that_a_mask_covers(mask: np.ndarray) -> None:
    top, left, part = covered(torch.from_numpy(mask))
    back = np.zeros_like(mask)
    back[top : top + part.shape[0], left : left + part.shape[1]] = part
    np.testing.assert_array_equal(back, mask)
    if mask.any():
        edges = part[0], part[-1], part[:, 0], part[:, -1]
        assert all(edge.any() for edge in edges), "no smaller one will do"
    else:
        assert part.shape == (1, 1)


def test_rle_of_no_masks() -> None:
    assert encode_rle(torch.zeros(0, 5, 6, dtype=torch.bool)) == []
    nothing = decode_rle([], (5, 6))
    assert nothing.shape == (0, 5, 6)
    assert nothing.dtype == torch.bool


@given(
    st.integers(0, 99),
    st.lists(boxes, max_size=12),
    st.tuples(st.integers(1, 3), st.sampled_from([24, 1600]), st.sampled_from([31, 1700])),
)
def test_crops_of_many_boxes_are_those_of_each(
    seed: int, given_boxes: list[torch.Tensor], shape: tuple[int, int, int]
) -> None:
    masks = torch.from_numpy(np.random.default_rng(seed).integers(0, 2, shape, np.uint8))
    rows = torch.stack([*given_boxes, torch.tensor([0.0, 0, 1, 1])])
    index = torch.arange(len(rows)) % len(masks)
    got = crop_masks(masks, rows, 5, index=index)
    shares = share_inside(masks, rows, index)
    for i, of in enumerate(index):
        assert got[i].equal(crop_masks(masks[of][None], rows[i : i + 1], 5)[0])
        alone = share_inside(masks[of][None], rows[i : i + 1], index[:1])
        torch.testing.assert_close(shares[i], alone[0])


def test_the_share_of_a_mask_inside_a_box() -> None:
    """Against counting on a grid ten times as fine, where boxes have whole sides."""
    random = np.random.default_rng(0)
    masks = random.random((3, 20, 30)) > 0.6
    boxes = np.array(
        [[2.3, 4.1, 17.9, 11.4], [-3, -2, 12.5, 40], [28.1, 0.2, 28.4, 0.9], [5, 5, 5, 9]]
    )
    index = [2, 0, 0, 1]
    expected = []
    for (x1, y1, x2, y2), i in zip((boxes * 10).round().astype(int), index, strict=True):
        fine = masks[i].repeat(10, 0).repeat(10, 1)
        expected.append(fine[max(y1, 0) : y2, max(x1, 0) : x2].sum() / fine.sum())
    got = share_inside(torch.from_numpy(masks), torch.from_numpy(boxes), torch.tensor(index))
    assert got.tolist() == pytest.approx(expected, abs=1e-9)


def test_an_empty_mask_has_no_share_anywhere() -> None:
    box = torch.tensor([[0.0, 0, 5, 5]])
    assert share_inside(torch.zeros(1, 9, 9, dtype=torch.uint8), box, torch.tensor([0])).item() == 0
    assert share_inside(torch.zeros(0, 9, 9), box[:0], torch.zeros(0).long()).shape == (0,)


def test_several_crops_of_one_mask() -> None:
    masks = torch.from_numpy(np.random.default_rng(0).random((2, 40, 40)) > 0.5)
    boxes = torch.tensor([[0.0, 0, 28, 28], [5, 5, 33, 33], [12, 12, 40, 40]])
    index = torch.tensor([1, 0, 1])
    got = crop_masks(masks, boxes, 28, index=index)
    expected = [masks[i, k : k + 28, k : k + 28] for i, k in ((1, 0), (0, 5), (1, 12))]
    assert got.equal(torch.stack(expected).float())
