from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from b2inst.ops.masks import encode_rle
from reference.final_masks import PublishedMasks, read_masks

#: A mask of 8×8 cells in a box of 16×16 pixels: left half sure, right half exactly undecided.
ROI = np.full((1, 8, 8), 0.5, np.float32)
ROI[:, :, :4] = 0.9
BOX = np.array([[4, 4, 20, 20]], np.float32)
#: At the box's rim zeros mix in, so its undecided half ends a pixel earlier.
BITMAP = np.zeros((1, 24, 32), bool)
BITMAP[:, 4:20, 4:12] = True
BITMAP[:, 5:19, 12:19] = True
#: The code of a mask with more pixels than the image has.
(LARGER,) = encode_rle(torch.ones((1, 32, 32), dtype=torch.bool))


def _read(bitmap: np.ndarray = BITMAP, **changed: Any) -> PublishedMasks:
    given = {"codes": encode_rle(torch.from_numpy(bitmap)), "rois": ROI, "boxes": BOX}
    return read_masks(**(given | {"size": (24, 32)} | changed))


def test_undecided_pixels_do_not_count_and_are_told() -> None:
    ours = BITMAP.copy()
    ours[0, 6:12, 17:19] = False
    found = _read().compare("m", ours)
    assert found.error == 0
    assert found.note.startswith("12 undecided pixels")
    assert _read(ours).compare_pasted("m").passed


def test_decided_pixels_count() -> None:
    ours = BITMAP.copy()
    ours[0, 10, 5] = False
    found = _read().compare("m", ours)
    decided = np.count_nonzero(BITMAP & ~_read().undecided)
    assert 100 < decided < 200
    assert found.error == pytest.approx(1 / decided)
    assert not found.passed
    assert found.note == ""
    assert _read(ours).compare_pasted("m").error == 1
    outside = BITMAP.copy()
    outside[0, 0, 0] = True
    assert _read(outside).compare_pasted("m").error == 1


def test_soft_masks_near_the_threshold_decide_when_they_are_the_same() -> None:
    rois = ROI - np.float32(1e-5)
    assert _read(rois=rois).compare_pasted("m").error > 50
    assert _read(rois=rois).compare("m", BITMAP).passed


def test_other_numbers_of_masks_fail() -> None:
    assert not _read().compare("m", np.concatenate([BITMAP, BITMAP])).passed


@pytest.mark.parametrize(
    "codes",
    [None, [], [3], [{"size": [32, 24], "counts": "x"}], [LARGER | {"size": [24, 32]}]],
)
def test_what_is_no_mask_of_the_image_is_refused(codes: Any) -> None:
    with pytest.raises(ValueError, match=r"run-length|RLE"):
        _read(codes=codes)


@pytest.mark.parametrize("box", [[4, 4, 4, 20], [np.nan, 4, 20, 20], [4, 4, np.inf, 20]])
def test_boxes_without_area_paste_nothing(box: list[float]) -> None:
    assert not _read(boxes=np.array([box], np.float32)).pasted.any()
