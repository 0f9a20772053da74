from __future__ import annotations

from typing import Any

import numpy as np
import torch

from b2inst.models import Explanation
from b2inst.structures import Bases, Instances
from b2inst.viz.paper.bases import basis_pictures


def explanation(*, boundary: bool, joined: bool) -> Explanation:
    maps = torch.zeros(1, 2, 8, 8)
    maps[0, 0, :4], maps[0, 0, 4:] = 2.0, -1.0
    logits = torch.full((1, 1, 8, 8), 9.0) if boundary else None
    if logits is not None and joined:
        maps = torch.cat([maps, logits], dim=1)
    nobody = Instances(
        boxes=torch.zeros(0, 4),
        scores=torch.zeros(0),
        class_scores=torch.zeros(0),
        labels=torch.zeros(0, dtype=torch.int64),
        masks=torch.zeros(0, 16, 16, dtype=torch.bool),
    )
    detections: Any = None
    image = np.full((16, 16, 3), 7, dtype=np.uint8)
    return Explanation(image, nobody, detections, Bases(maps, 2, logits), content=(8, 8))


def test_image_then_bases_then_the_boundary_once() -> None:
    plain = ["image", "basis 1", "basis 2"]
    assert list(basis_pictures(explanation(boundary=False, joined=False), side=16)) == plain
    found = basis_pictures(explanation(boundary=True, joined=True), side=16)
    assert list(found) == [*plain, "boundary basis"]
    found = basis_pictures(explanation(boundary=True, joined=False), side=16)
    assert list(found) == [*plain, "boundary"]
    assert {picture.shape for picture in found.values()} == {(16, 16, 3)}
    assert (found["image"] == 7).all()


def test_positive_is_red_negative_blue_and_zero_nearly_white() -> None:
    found = basis_pictures(explanation(boundary=False, joined=False), side=16)
    above, below = found["basis 1"][0, 0], found["basis 1"][-1, 0]
    assert above[0] > above[2]
    assert below[2] > below[0]
    assert found["basis 2"].min() > 235
