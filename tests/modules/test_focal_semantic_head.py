from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from b2inst.modules.focal_semantic_head import FocalSemanticHead
from b2inst.modules.mask_branch import MaskBranch
from b2inst.structures import Targets

FEATURES = {8: torch.randn(2, 6, 9, 14, generator=torch.Generator().manual_seed(0))}


@pytest.fixture
def head() -> FocalSemanticHead:
    torch.manual_seed(0)
    return FocalSemanticHead(in_channels=6, num_classes=4, channels=8)


def focal(positives: int, negatives: int, probability: float) -> float:
    """All cells at one probability; divided by the number of positives, at least 1."""
    hit = 0.25 * (1 - probability) ** 2 * -math.log(probability)
    miss = 0.75 * probability**2 * -math.log(1 - probability)
    return (positives * hit + negatives * miss) / max(positives, 1)


def flat(head: FocalSemanticHead) -> None:
    nn.init.zeros_(head.project.weight)


def test_starts_at_a_prior_of_one_in_a_hundred(
    head: FocalSemanticHead, make_targets: Callable[..., Targets]
) -> None:
    flat(head)
    loss = head.loss(FEATURES, [make_targets((72, 112), [])] * 2)["loss_semantic"]
    assert loss.item() == pytest.approx(focal(0, 2 * 9 * 14 * 4, 0.01), rel=1e-4)


def test_truth_is_at_the_cells_centres_and_padding_is_background(
    head: FocalSemanticHead, make_targets: Callable[..., Targets]
) -> None:
    flat(head)
    # 30×30 pixels of a batch padded to 72×112; cells' centres are 4, 12, 20 and 28.
    target = make_targets((30, 30), [(5, 4, 29, 13)], [3])  # x: 12, 20, 28; y: 4, 12
    loss = head.loss({8: FEATURES[8][:1]}, [target])["loss_semantic"]
    assert loss.item() == pytest.approx(focal(6, 9 * 14 * 4 - 6, 0.01), rel=1e-4)


def test_of_several_objects_the_smallest_mask_counts(
    head: FocalSemanticHead, make_targets: Callable[..., Targets]
) -> None:
    """By the mask's area, not the box's: the second has a large box and hardly any mask."""
    boxes = [(0, 0, 24, 24), (0, 0, 48, 48), (0, 0, 24, 24)]
    target = make_targets((72, 112), boxes, [0, 2, 3])
    target.masks[1] = 0
    target.masks[1, 4, 4] = target.masks[1, 12, 44] = 1
    truth = head._class_map(target, background=4)
    expected = torch.full((9, 14), 4)
    expected[:3, :3] = 0  # the first of the two equal ones
    expected[0, 0] = expected[1, 5] = 2
    assert truth.equal(expected)


def test_trains_beside_the_bases_and_has_no_say_in_them(
    head: FocalSemanticHead, make_targets: Callable[..., Targets]
) -> None:
    branch = MaskBranch(in_channels=6, strides=(8,), channels=8, auxiliary=head).eval()
    before = branch(FEATURES)
    targets = [make_targets((72, 112), [(0, 0, 50, 50)])] * 2
    assert branch.loss(FEATURES, before, targets).keys() == {"loss_semantic"}
    for parameter in head.parameters():
        nn.init.constant_(parameter, 7)
    assert branch(FEATURES).maps.equal(before.maps)
