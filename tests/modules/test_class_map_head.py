from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from b2inst.modules.class_map_head import ClassMapHead
from b2inst.structures import Targets


def test_loss_is_the_cross_entropy_to_the_union_of_each_class(
    make_targets: Callable[..., Targets],
) -> None:
    torch.manual_seed(0)
    head = ClassMapHead(in_channels=6, num_classes=3)
    features = {8: torch.randn(2, 6, 5, 7)}
    boxes = [(0, 0, 16, 24), (8, 8, 32, 24), (40, 0, 44, 40)]  # the last covers half a cell
    targets = [
        make_targets((40, 56), boxes, labels=[2, 2, 0]),
        make_targets((40, 56), []),
    ]
    truth = torch.zeros(2, 3, 5, 7)
    truth[0, 2, :3, :2] = 1
    truth[0, 2, 1:3, 1:4] = 1
    logits = F.conv2d(features[8], head.project.weight, head.project.bias)
    expected = F.binary_cross_entropy_with_logits(logits, truth, reduction="sum") / (5 * 7 * 2)
    loss = head.loss(features, targets)["loss_semantic"]
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
