from __future__ import annotations

import pytest
import torch

from b2inst.modules.roi_pooler import RoIPooler

BOXES = [
    torch.tensor([[100.0, 130, 212, 242]]),
    torch.tensor([[3.0, 5, 40, 33], [50, 60, 590, 640]]),
]


@pytest.mark.parametrize("samples", [1, 2])
def test_bins_hold_the_mean_place_of_their_pixels(samples: int) -> None:
    """Of features that hold their cells' centres, x and y; images and boxes in order."""
    ramps = {}
    for stride in (4, 8, 16, 32):
        centres = stride * (torch.arange(640 // stride) + 0.5)
        x = centres.expand(len(centres), -1)
        image = torch.stack([x, x.T])
        ramps[stride] = torch.stack([image, image + 1000])
    pooled = RoIPooler(strides=(4, 8, 16, 32), size=7, samples=samples)(ramps, BOXES)
    assert pooled.shape == (3, 2, 7, 7)
    for row, (image, box) in zip(
        pooled, ((0, BOXES[0][0]), (1, BOXES[1][0]), (1, BOXES[1][1])), strict=True
    ):
        bins = (torch.arange(7) + 0.5) / 7
        x = 1000 * image + box[0] + bins * (box[2] - box[0])
        y = 1000 * image + box[1] + bins * (box[3] - box[1])
        torch.testing.assert_close(row[0, :, :6], x.expand(7, 7)[:, :6])
        torch.testing.assert_close(row[1, :6], y[:, None].expand(7, 7)[:6])


def test_no_boxes() -> None:
    features = {8: torch.rand(2, 5, 10, 10)}
    pooled = RoIPooler(strides=(8,), size=14)(features, [torch.zeros(0, 4)] * 2)
    assert pooled.shape == (0, 5, 14, 14)
