from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_convert

from b2inst.modules.prior_boxes import corners, decode, encode, prior_boxes


def test_squares_around_the_centres_of_cells_level_by_level() -> None:
    got = prior_boxes([(2, 3), (1, 1)], scales=(0.25, 0.5), factors=(1, 2))
    expected = []
    for (height, width), scale in (((2, 3), 0.25), ((1, 1), 0.5)):
        for y in range(height):
            for x in range(width):
                for factor in (1, 2):
                    side = scale * factor
                    expected.append([(x + 0.5) / width, (y + 0.5) / height, side, side])
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_as_many_as_published() -> None:
    """yolact_facts.md §5: levels of 69, 35, 18, 9 and 5 cells."""
    shapes = [(n, n) for n in (69, 35, 18, 9, 5)]
    assert prior_boxes(shapes, scales=(1,) * 5, factors=(1, 1, 1)).shape == (19248, 4)


boxes = st.tuples(*[st.floats(-1, 1, width=32)] * 2, *[st.floats(0.0625, 1, width=32)] * 2)


@given(st.lists(st.tuples(boxes, boxes), min_size=1, max_size=5))
def test_what_is_encoded_is_decoded(pairs: list[tuple[tuple[float, ...], ...]]) -> None:
    centred, priors = torch.tensor(pairs).unbind(1)
    wanted = box_convert(centred, "cxcywh", "xyxy")
    torch.testing.assert_close(corners(centred), wanted)
    torch.testing.assert_close(decode(encode(wanted, priors), priors), wanted, atol=1e-4, rtol=1e-4)


def test_offsets_are_in_units_of_their_variances() -> None:
    prior = torch.tensor([0.5, 0.5, 0.2, 0.4])
    box = torch.tensor([0.45, 0.3, 0.65, 0.7])  # moved by a quarter of its width
    assert encode(box, prior).tolist() == pytest.approx([2.5, 0, 0, 0], abs=1e-5)
    twice = torch.tensor([0.3, 0.1, 0.7, 0.9])
    assert encode(twice, prior).tolist() == pytest.approx([0, 0, np.log(2) * 5, np.log(2) * 5])
