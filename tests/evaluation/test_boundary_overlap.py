"""The boundary IoUs that matter, against the evaluator that takes all of them."""

from __future__ import annotations

import numpy as np
import pytest
from faster_coco_eval.core.mask import rleToBoundaryCV
from pycocotools import mask as coco_mask

from b2inst.evaluation.average_precision import load_pair, run_evaluator
from b2inst.evaluation.boundary_overlap import boundary_overlaps, inner_boundaries

from .conftest import SIZE, ellipse, random_pair, rle


@pytest.mark.parametrize("dilation", [0.001, 0.02, 0.04])
def test_equal_to_the_evaluators_wherever_something_can_match(dilation: float) -> None:
    truth, chosen = load_pair(*reversed(random_pair(3, images=20, crowds=0.2)))
    masks = run_evaluator(truth, chosen, kind="segm")
    expected = run_evaluator(truth, chosen, kind="boundary", boundary_dilation=dilation).ious
    found = boundary_overlaps(masks, boundary_dilation=dilation)
    assert found.keys() == expected.keys()
    smaller = 0
    for pair, overlap in expected.items():
        if len(overlap):
            mask = np.asarray(masks.ious[pair])
            can_match = mask >= 0.5
            np.testing.assert_array_equal(found[pair][can_match], np.asarray(overlap)[can_match])
            np.testing.assert_array_equal(found[pair][~can_match], mask[~can_match])
            smaller += (found[pair] < mask).sum()
    assert smaller > 10, "boundary IoUs were the smaller ones somewhere"


@pytest.mark.parametrize("dilation", [0.001, 0.02, 0.1])
def test_boundaries_are_the_evaluators(dilation: float) -> None:
    rng = np.random.default_rng(0)
    masks = [ellipse(rng) for _ in range(6)]
    frame = np.zeros(SIZE, dtype=bool)
    frame[:30, -40:] = True  # cut by the frame of the image on two sides
    codes = [rle(mask) for mask in (*masks, frame)]
    for group in (codes, codes[:1], codes[-1:]):
        box = coco_mask.toBbox(coco_mask.merge(group)).astype(int)
        rows, columns = slice(box[1], box[1] + box[3]), slice(box[0], box[0] + box[2])
        width = max(round(dilation * np.hypot(*SIZE)), 1)
        for code, found in zip(group, inner_boundaries(group, width=width), strict=True):
            expected = coco_mask.decode(rleToBoundaryCV(code, dilation))
            assert expected.sum() == found.sum()
            np.testing.assert_array_equal(found, expected[rows, columns])
