"""The script that measures what masks lose where boxes are clipped before they are pasted."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch

from b2inst.structures import RoIMasks


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("overhanging_boxes")


def test_a_mask_keeps_its_place_beyond_the_border(script: ModuleType) -> None:
    right_half = torch.zeros(1, 28, 28)
    right_half[..., 14:] = 1
    masks = RoIMasks(right_half, torch.tensor([[-25.0, 5, 25, 45]]))
    clipped = torch.tensor([[0.0, 10, 50, 90]])  # in an image of twice the size of the input
    whole = script.paste_whole(masks, clipped, (100, 100), (50, 50))[0]
    assert whole.any(0).nonzero()[[0, -1]].flatten().tolist() == [0, 49]
    assert whole.any(1).nonzero()[[0, -1]].flatten().tolist() == [10, 89]
    squeezed = masks.paste(clipped, (100, 100), (50, 50))[0]
    assert squeezed.any(0).nonzero()[[0, -1]].flatten().tolist() == [25, 49]


def test_a_box_inside_is_pasted_as_always(script: ModuleType) -> None:
    generator = torch.Generator().manual_seed(0)
    masks = RoIMasks(
        torch.rand(3, 28, 28, generator=generator), torch.tensor([[4.0, 6, 30, 40]] * 3)
    )
    size = (80, 80)
    assert script.paste_whole(masks, masks.boxes, size, size).equal(
        masks.paste(masks.boxes, size, size)
    )
