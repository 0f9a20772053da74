"""Against pycocotools, which reads and writes the same codes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask

from b2inst.data.segmentation import rasterise, run_lengths

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
    assert run_lengths(code["counts"]).tolist() == lengths_of(mask)
    assert run_lengths(code["counts"].decode()).tolist() == lengths_of(mask)


def test_run_lengths_of_a_large_code() -> None:
    mask = np.zeros((3000, 2000), dtype=np.uint8, order="F")
    mask[1500:, 900:] = 1
    assert run_lengths(coco_mask.encode(mask)["counts"]).tolist() == lengths_of(mask)


@pytest.mark.parametrize("counts", ["!", "ééé", "oooooooooooooooo", "P", "\x7f0"])
def test_broken_codes_are_errors(counts: str) -> None:
    with pytest.raises(ValueError, match="code"):
        run_lengths(counts)


@given(bitmaps)
def test_all_run_length_forms_give_the_mask(mask: np.ndarray) -> None:
    code = coco_mask.encode(np.asfortranarray(mask))
    height, width = mask.shape
    forms = [code["counts"], code["counts"].decode(), lengths_of(mask)]
    for counts in forms:
        drawn = rasterise({"size": [height, width], "counts": counts}, height, width)
        np.testing.assert_array_equal(drawn, mask)


def test_polygons_are_joined() -> None:
    parts = [[1, 1, 5, 1, 5, 4, 1, 4], [3, 2, 9, 2, 9, 8, 3, 8]]
    expected = np.zeros((10, 12), dtype=np.uint8)
    expected[1:4, 1:5] = 1
    expected[2:8, 3:9] = 1
    np.testing.assert_array_equal(rasterise([np.array(p, float) for p in parts], 10, 12), expected)
