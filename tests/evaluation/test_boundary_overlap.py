"""Boundary IoUs against scipy's erosion, and the width of boundaries against NumPy's rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask
from scipy import ndimage

from b2inst.evaluation.average_precision import boundary_overlaps, load_checked, run_evaluators
from b2inst.evaluation.ground_truth import (
    boundary_width,
    count_common,
    decode_window,
    inner_boundary,
    swallowed_share,
)

from .conftest import SIZE, annotation, dataset, prediction, random_pair, rle

#: Image sides (height, width) whose 2 % of the diagonal ends in .5: 3.5, 5.5, 7.5, 4.5.
HALVES = [(105, 140), (140, 105), (77, 264), (225, 300)]


def ring(mask: np.ndarray, width: int) -> np.ndarray:
    """The pixels of a mask within ``width`` of its outside; beyond the frame is outside."""
    padded = np.pad(mask.astype(bool), 1)
    distance = ndimage.distance_transform_cdt(padded, metric="chessboard")[1:-1, 1:-1]
    return mask.astype(bool) & (distance <= width)


def test_width_is_rounded_half_to_even_at_every_size() -> None:
    sides = np.arange(1, 1001)
    diagonals = np.sqrt(sides[:, None] ** 2 + sides**2)
    expected = np.maximum(np.rint(0.02 * diagonals), 1).astype(int)
    found = [[boundary_width(h, w) for w in range(1, 1001)] for h in range(1, 1001)]
    np.testing.assert_array_equal(found, expected)
    assert [boundary_width(*size) for size in HALVES] == [4, 4, 6, 8]


@settings(max_examples=60)
@given(
    st.one_of(st.sampled_from(HALVES), st.tuples(st.integers(1, 400), st.integers(1, 400))),
    st.integers(0, 2**32 - 1),
)
def test_boundaries_are_what_an_erosion_leaves(size: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=size), rng.uniform(1, 12))
    mask = noise > np.quantile(noise, rng.uniform(0, 0.9))
    if not mask.any():
        return
    window, inside = inner_boundary(rle(mask), width=boundary_width(*size))
    found = np.zeros_like(mask)
    found[window] = inside
    expected = ring(mask, max(1, int(np.rint(0.02 * np.sqrt(size[0] ** 2 + size[1] ** 2)))))
    np.testing.assert_array_equal(found, expected)


@given(hnp.arrays(bool, (2, 6, 5), elements=st.sampled_from([True, False, False])))
def test_common_pixels_of_masks_in_their_windows(masks: np.ndarray) -> None:
    one, other = (decode_window(rle(mask)) for mask in masks)
    assert count_common(one, other) == (masks[0] & masks[1]).sum()


@pytest.mark.parametrize("size", HALVES)
def test_overlaps_at_sizes_where_the_width_is_a_matter_of_rounding(size: tuple[int, int]) -> None:
    mask = np.zeros(size, dtype=bool)
    mask[12:-9, 20:-7] = True
    moved = np.roll(mask, (1, 2), axis=(0, 1))
    truth = dataset([annotation(1, 10, 2, mask)], images=1)
    truth["images"][0] |= {"height": size[0], "width": size[1]}
    found = [prediction(10, 2, moved, 0.9)]
    masks = run_evaluators(load_checked(found, truth), found, ["segm"])["segm"]
    (overlap,) = (v for v in boundary_overlaps(masks).values() if len(v))
    one, other = (ring(m, int(np.rint(0.02 * np.hypot(*size)))) for m in (mask, moved))
    assert overlap.item() == (one & other).sum() / (one | other).sum()


@pytest.mark.parametrize("pixels", [1, None, 5])
def test_boundary_iou_where_masks_can_match_and_mask_iou_elsewhere(pixels: int | None) -> None:
    truth, predictions = random_pair(3, images=20, crowds=0.2)
    masks = run_evaluators(load_checked(predictions, truth), predictions, ["segm"])["segm"]
    found = boundary_overlaps(masks, pixels=pixels)
    assert found.keys() == masks.ious.keys()
    width = pixels or int(np.rint(0.02 * np.hypot(*SIZE)))
    boundaries: dict[str, np.ndarray] = {}

    def boundary(record: dict[str, Any]) -> np.ndarray:
        code = record["segmentation"]
        if code["counts"] not in boundaries:
            boundaries[code["counts"]] = ring(coco_mask.decode(code), width)
        return boundaries[code["counts"]]

    smaller = 0
    for pair, overlap in found.items():
        if not len(overlap):
            continue
        of_masks = np.asarray(masks.ious[pair])
        own = [
            sorted(
                (
                    r
                    for r in coco.dataset["annotations"]
                    if pair == (r["image_id"], r["category_id"])
                ),
                key=lambda r: -r.get("score", 0),
            )
            for coco in (masks.cocoDt, masks.cocoGt)
        ]
        for row, column in np.ndindex(overlap.shape):
            expected = of_masks[row, column]
            if expected >= 0.5 and not own[1][column]["iscrowd"]:
                a, b = boundary(own[0][row]), boundary(own[1][column])
                expected = min(expected, (a & b).sum() / (a | b).sum())
            assert overlap[row, column] == expected
        smaller += (overlap < of_masks).sum()
    assert smaller > 10, "boundary IoUs were the smaller ones somewhere"


def test_the_share_of_objects_that_their_boundary_swallows() -> None:
    """Of a disc of radius r, and of a frame's corner, d pixels reach the middle or do not."""
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]]
    discs = [(ys - 30) ** 2 + (xs - 40) ** 2 <= radius**2 for radius in (2, 5, 9)]
    corner = np.zeros(SIZE, dtype=bool)
    corner[:9, :9] = True  # 4 pixels from the frame, too, the middle begins
    masks = [*discs, corner]
    annotations = [annotation(i + 1, 10, 2, mask) for i, mask in enumerate(masks)]
    annotations.append(annotation(5, 10, 2, discs[2], iscrowd=1))
    truth = dataset(annotations, images=1)
    for width in range(1, 11):
        expected = np.mean([ring(mask, width).sum() == mask.sum() for mask in masks])
        assert swallowed_share(truth, boundary_pixels=width) == expected
    shares = [swallowed_share(truth, boundary_pixels=width) for width in (1, 4, 5, 10)]
    assert shares == [0, 0.5, 0.75, 1]
    assert swallowed_share(dataset([], images=1)) == 0
