from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask
from scipy import ndimage

from b2inst.ops.masks import crop_masks, paste_masks
from b2inst.ops.quality import boundary_dice, mask_iou, mask_quality
from b2inst.structures import FrameMasks, RoIMasks

pairs = hnp.arrays(bool, st.tuples(st.just(2), st.integers(1, 15), st.integers(1, 15)))


def dice_of_edges(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Paper Eq. 1, written out; beyond the frame is background."""
    p, t = (
        (m & ~ndimage.binary_erosion(m, np.ones((3, 3)))).astype(float) for m in (predicted, truth)
    )
    return float((2 * (p * t).sum() + 1e-5) / ((p**2).sum() + (t**2).sum() + 1e-5))


@given(pairs)
def test_mask_iou_is_that_of_coco(pair: np.ndarray) -> None:
    codes = coco_mask.encode(np.asfortranarray(pair.transpose(1, 2, 0).astype(np.uint8)))
    expected = coco_mask.iou(codes[:1], codes[1:], [0])[0, 0] if pair.any() else 0
    assert mask_iou(*torch.from_numpy(pair)) == pytest.approx(expected)


@given(pairs)
def test_boundary_dice_is_equation_1(pair: np.ndarray) -> None:
    predicted, truth = torch.from_numpy(pair)
    assert boundary_dice(predicted, truth) == pytest.approx(dice_of_edges(*pair), rel=1e-5)
    assert boundary_dice(predicted, predicted) == 1


@given(
    st.integers(0, 99),
    st.lists(
        st.tuples(
            st.floats(-8, 40, width=32),
            st.floats(-8, 30, width=32),
            st.floats(1, 30, width=32),
            st.floats(1, 30, width=32),
        ),
        max_size=3,
    ),
)
def test_roi_quality_is_that_of_the_pasted_masks(
    seed: int, given_boxes: list[tuple[float, ...]]
) -> None:
    random = np.random.default_rng(seed)
    xywh = np.array(given_boxes, np.float32).reshape(-1, 4)
    boxes = torch.from_numpy(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1))
    soft = torch.from_numpy(random.random((len(boxes), 7, 7), np.float32))
    truths = torch.zeros(len(boxes), 32, 40, dtype=torch.uint8)
    for truth, (x1, y1, x2, y2) in zip(truths, boxes.clamp(min=0).int().tolist(), strict=True):
        truth[y1:y2, x1:x2] = 1
    pasted = paste_masks(soft, boxes, (32, 40)).numpy()

    iou, dice = mask_quality(RoIMasks(soft, boxes), truths)
    assert iou.shape == dice.shape == (len(boxes),)
    for i, truth in enumerate(truths.bool().numpy()):
        if not pasted[i].any() and not truth.any():
            continue  # a box outside the image
        union = (pasted[i] | truth).sum()
        assert iou[i] == pytest.approx((pasted[i] & truth).sum() / union)
        # The image's frame cuts both boundaries; within the image the window makes none.
        assert dice[i] == pytest.approx(dice_of_edges(pasted[i], truth), rel=1e-5)


def one_by_one(masks: RoIMasks | FrameMasks, truths: torch.Tensor) -> np.ndarray:
    """IoU and boundary Dice of each mask in its box and a pixel around, in turn."""
    height, width = truths.shape[1:]
    qualities = np.zeros((len(masks), 2))
    for i, (x1, y1, x2, y2) in enumerate(masks.boxes.tolist()):
        rows = range(max(math.floor(y1) - 1, 0), min(math.ceil(y2) + 1, height))
        columns = range(max(math.floor(x1) - 1, 0), min(math.ceil(x2) + 1, width))
        if x2 > x1 and y2 > y1 and rows and columns:
            frame = torch.arange(height)[None], torch.arange(width)[None]
            predicted, truth = (
                m.numpy()[rows.start : rows.stop, columns.start : columns.stop]
                for m in (masks[i : i + 1].at(*frame)[0], truths[i].bool())
            )
            both, either = (predicted & truth).sum(), (predicted | truth).sum()
            qualities[i] = both / max(either, 1), dice_of_edges(predicted, truth)
    return qualities


@given(
    seed=st.integers(0, 99),
    xywh=hnp.arrays(
        np.float32,
        st.tuples(st.integers(0, 40), st.just(4)),
        elements=st.sampled_from([-30, -2.5, -1, 0, 0.25, 1, 3, 7.75, 20, 39, 40, 60]),
    ),
    in_frame=st.booleans(),
)
def test_many_masks_of_all_sizes_are_rated_as_one_by_one(
    seed: int, xywh: np.ndarray, in_frame: bool
) -> None:
    """Also boxes of one pixel, without extent, across the frame and beside it."""
    random = np.random.default_rng(seed)
    boxes = torch.from_numpy(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1))
    soft = torch.from_numpy(random.random((len(boxes), 9, 9), np.float32))
    truths = torch.from_numpy(random.integers(0, 2, (len(boxes), 40, 48), np.uint8))
    masks = FrameMasks(soft, boxes, 4, 2.5) if in_frame else RoIMasks(soft, boxes)
    got = torch.stack(mask_quality(masks, truths), 1)
    np.testing.assert_allclose(got, one_by_one(masks, truths), rtol=1e-5)


def test_large_masks_are_not_rated_all_at_once(largest_float: Callable[..., int]) -> None:
    boxes = torch.tensor([[0.0, 0, 1333, 800]]).expand(12, 4)
    masks = RoIMasks(torch.rand(12, 28, 28), boxes)
    assert largest_float(mask_quality, masks, torch.ones(12, 800, 1333).byte()) <= 2 * 800 * 1333


def test_a_perfect_mask_has_quality_1() -> None:
    truth = torch.zeros(1, 64, 64, dtype=torch.bool)
    truth[0, 10:38, 20:48] = True
    truth[0, 10:15, 20:30] = False
    box = torch.tensor([[20.0, 10, 48, 38]])  # 28 pixels: a bin is a pixel
    iou, dice = mask_quality(RoIMasks(crop_masks(truth, box, 28), box), truth)
    assert iou.tolist() == [1]
    assert dice.tolist() == [1]


def test_of_a_mask_on_the_frame_what_is_in_its_box_counts() -> None:
    cells = torch.zeros(1, 16, 16)
    cells[0, 2:9, 5:12] = 1  # pixels 8 to 36 and 20 to 48
    cells[0, 12:, :] = 1  # far below the box
    box = torch.tensor([[20.0, 8, 48, 36]])
    truth = torch.zeros(1, 64, 64, dtype=torch.bool)
    truth[0, 8:36, 20:48] = True
    nearest = FrameMasks(cells.repeat_interleave(4, 1).repeat_interleave(4, 2), box, 1, 0.5)
    iou, dice = mask_quality(nearest, truth)
    assert iou.tolist() == [1]
    assert dice.tolist() == [1]


def test_a_one_pixel_wide_error_costs_the_boundary_more_than_the_area() -> None:
    truth = torch.zeros(40, 40, dtype=torch.bool)
    truth[5:35, 5:35] = True
    predicted = torch.zeros(40, 40, dtype=torch.bool)
    predicted[6:34, 6:34] = True
    assert mask_iou(predicted, truth) == pytest.approx(28**2 / 30**2)
    assert boundary_dice(predicted, truth) < 1e-5


@pytest.mark.parametrize("box", [(80, 80, 90, 90), (10, 10, 10, 20)])
def test_boxes_without_pixels_have_quality_0(box: tuple[int, ...]) -> None:
    truth = torch.ones(1, 40, 40, dtype=torch.uint8)
    masks = RoIMasks(torch.ones(1, 7, 7), torch.tensor([box], dtype=torch.float32))
    iou, dice = mask_quality(masks, truth)
    assert iou.tolist() == [0]
    assert dice.tolist() == [0]
