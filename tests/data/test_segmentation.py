"""Against pycocotools, which reads and writes the same codes."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from b2inst.data.segmentation import fits_mask, read_segmentation, run_lengths, to_rle

shapes = hnp.array_shapes(min_dims=2, max_dims=2, max_side=70)
bitmaps = hnp.arrays(np.uint8, shapes, elements=st.integers(0, 1))


def lengths_of(mask: np.ndarray) -> list[int]:
    """Run lengths by definition: column by column, background first."""
    runs, value = [0], 0
    for pixel in mask.ravel(order="F"):
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


@given(bitmaps)
def test_run_lengths_of_compressed_codes(mask: np.ndarray) -> None:
    code = coco_mask.encode(np.asfortranarray(mask))
    for counts in (code["counts"], code["counts"].decode()):
        assert run_lengths(counts).tolist() == lengths_of(mask)


def test_run_lengths_of_a_large_code() -> None:
    mask = np.zeros((3000, 2000), dtype=np.uint8, order="F")
    mask[1500:, 900:] = 1
    assert run_lengths(coco_mask.encode(mask)["counts"]).tolist() == lengths_of(mask)


@pytest.mark.parametrize("counts", ["!", "ééé", "oooooooooooooooo", "P", "\x7f0", "PPPPPPP0"])
def test_broken_codes_are_errors(counts: str) -> None:
    with pytest.raises(ValueError, match="code"):
        run_lengths(counts)


@given(bitmaps)
def test_all_run_length_forms_give_the_mask(mask: np.ndarray) -> None:
    code = coco_mask.encode(np.asfortranarray(mask))
    height, width = mask.shape
    forms = [code["counts"], code["counts"].decode(), lengths_of(mask)]
    for counts in forms:
        drawn = coco_mask.decode(to_rle({"size": [height, width], "counts": counts}, height, width))
        np.testing.assert_array_equal(drawn, mask)


def test_polygons_are_joined() -> None:
    parts = [[1, 1, 5, 1, 5, 4, 1, 4], [3, 2, 9, 2, 9, 8, 3, 8]]
    expected = np.zeros((10, 12), dtype=np.uint8)
    expected[1:4, 1:5] = 1
    expected[2:8, 3:9] = 1
    code = to_rle([np.array(p, float) for p in parts], 10, 12)
    np.testing.assert_array_equal(coco_mask.decode(code), expected)


def read(value: Any, size: tuple[int, int] = (20, 30)) -> tuple[np.ndarray, list[str]]:
    notes: list[str] = []
    return coco_mask.decode(read_segmentation(value, *size, notes.append)), notes


SQUARE = [2, 2, 12, 2, 12, 12, 2, 12]
HOLE = [5, 5, 9, 5, 9, 9, 5, 9]


def drawn(*polygons: list[float]) -> np.ndarray:
    """By pycocotools alone."""
    return coco_mask.decode(coco_mask.frPyObjects([list(p) for p in polygons], 20, 30)).max(axis=2)


@pytest.mark.parametrize(
    ("value", "noted"),
    [
        ([SQUARE], False),
        ([[float(n) for n in SQUARE]], False),
        (SQUARE, True),  # not within a list
        ([[[x, y] for x, y in zip(SQUARE[::2], SQUARE[1::2], strict=True)]], True),
        ([[x, y] for x, y in zip(SQUARE[::2], SQUARE[1::2], strict=True)], True),  # of one polygon
        ([array("d", SQUARE[i : i + 2]) for i in (0, 2, 4, 6)], True),  # as read from a file
        ([SQUARE, [3, 3, 4, 4]], True),  # a piece of two points
        ([SQUARE, []], True),
        ([[3, 3, 4, 4], SQUARE], True),
        ({"exterior": SQUARE}, True),
        ([{"exterior": SQUARE, "interiors": []}], True),
    ],
)
def test_ways_to_write_a_polygon(value: Any, noted: bool) -> None:
    mask, notes = read(value)
    np.testing.assert_array_equal(mask, drawn(SQUARE))
    assert len(notes) == noted


def test_holes_are_cut_out_of_their_own_piece() -> None:
    mask, _ = read({"exterior": SQUARE, "interiors": [HOLE]})
    np.testing.assert_array_equal(mask, drawn(SQUARE) - drawn(HOLE))
    inside = [6, 6, 8, 6, 8, 8, 6, 8]  # another piece, within the hole of the first
    mask, _ = read([{"exterior": SQUARE, "interiors": [HOLE]}, {"exterior": inside}])
    np.testing.assert_array_equal(mask, drawn(SQUARE) - drawn(HOLE) + drawn(inside))


@given(bitmaps)
def test_run_lengths_with_a_decimal_point(mask: np.ndarray) -> None:
    counts = [float(n) for n in lengths_of(mask)]
    height, width = mask.shape
    code = {"size": [float(height), float(width)], "counts": counts}
    found = read_segmentation(code, height, width, pytest.fail)
    np.testing.assert_array_equal(coco_mask.decode(found), mask)


@given(bitmaps)
def test_run_lengths_within_a_list(mask: np.ndarray) -> None:
    code = {"size": list(mask.shape), "counts": lengths_of(mask)}
    notes: list[str] = []
    found = read_segmentation([code], *mask.shape, notes.append)
    np.testing.assert_array_equal(coco_mask.decode(found), mask)
    assert notes == ["run lengths within a list"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([[1, 1, 5, 5]], "no polygon of at least 3 points"),
        ([[1, 1], [5, 5]], "no polygon of at least 3 points"),
        ([[1, 1], [5, 5], ["a", 5]], "two numbers a point"),
        ({"exterior": [1, 1, 5]}, "two numbers a point"),
        ({"exterior": SQUARE, "interiors": 5}, "interiors 5"),
        ([{"exterior": SQUARE}, SQUARE], "neither a list of numbers nor has an exterior"),
        ({"size": [20, 30], "counts": [600.5]}, "not whole numbers"),
        ({"size": [20, 30], "counts": [float("nan")]}, "not whole numbers"),
        ({"size": [20, 30], "counts": [float("inf")]}, "not whole numbers"),
        ({"size": None, "counts": [600]}, "size None"),
        ({"size": [20, 30], "counts": [700, -100]}, "a negative run length, -100"),
    ],
)
def test_what_is_no_segmentation(value: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read(value)


CLOSE = [[10, 3, 14, 3, 14, 13, 10, 13]]  # x, y, width, height 10, 3, 4, 10
FAR = [25, 18, 25.2, 18, 25.2, 18.2]  # covers no pixel


@pytest.mark.parametrize(
    ("box", "value", "fits"),
    [
        ([10, 3, 4, 10], CLOSE, True),
        ([10, 3, 8, 10], CLOSE, True),  # IoU 1/2
        ([10, 3, 8.1, 10], CLOSE, False),
        ([10, 3, 4, 4.9], CLOSE, False),
        ([7, 6, 4, 10], CLOSE, True),  # IoU 7/73, but all sides within three pixels
        ([6.9, 6, 4, 10], CLOSE, False),
        ([10, 3, 15.2, 15.2], CLOSE, False),
        ([10, 3, 15.2, 15.2], [*CLOSE, FAR], True),
        ([10, 3, 15.2, 15], [*CLOSE, [25, 18]], True),
        ([10, 3, 15.2, 15], [[[10, 3], [14, 3], [14, 13]], [[25, 18]]], True),
        ([10, 3, 15.2, 15.2], [{"exterior": p} for p in (*CLOSE, FAR)], True),
        ([10, 3, 15.2, 15.2], {"exterior": CLOSE[0], "interiors": [FAR]}, False),
        ([10, 3, 4, 10], CLOSE[0], True),
        ([10, 3, 15, 15], CLOSE[0], False),
        ([10, 0, 5, 20], {"size": [20, 30], "counts": [200, 100, 300]}, True),
        ([0, 0, 30, 20], {"size": [20, 30], "counts": [200, 100, 300]}, False),
    ],
)
def test_boxes_that_fit_their_masks(box: list[float], value: Any, fits: bool) -> None:
    code = read_segmentation(value, 20, 30, lambda _: None)
    assert fits_mask(box, code, value) is fits


boxes = st.tuples(*[st.integers(0, 30)] * 2, *[st.integers(1, 30)] * 2)


@given(boxes, boxes)
def test_boxes_by_their_iou(box: tuple[int, ...], other: tuple[int, ...]) -> None:
    mask = np.zeros((60, 60), dtype=np.uint8, order="F")
    x, y, w, h = other
    mask[y : y + h, x : x + w] = 1
    code = coco_mask.encode(mask)
    iou = coco_mask.iou(np.array([box], float), np.array([other], float), [0]).item()
    corners = np.array([box, other])
    corners[:, 2:] += corners[:, :2]
    near = np.abs(corners[0] - corners[1]).max() <= 3
    value = {"size": [60, 60], "counts": code["counts"]}
    assert fits_mask(box, code, value) is bool(iou >= 0.5 or near)
