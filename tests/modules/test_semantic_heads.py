from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from b2inst.modules.basis_heads import BasisHead, MaskBranch
from b2inst.modules.semantic_heads import ClassMapHead, FocalSemanticHead, SemanticHead
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
    truth = head._class_map(target)
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


def test_class_maps_are_taught_by_the_cross_entropy_to_the_union_of_each_class(
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


def test_class_maps_know_the_padding(make_targets: Callable[..., Targets]) -> None:
    head = ClassMapHead(in_channels=6, num_classes=1)
    maps = {8: torch.randn(1, 6, 6, 8)}
    boxes = [(0, 0, 30, 20), (24, 8, 44, 36)]
    losses = [
        head.loss(maps, [make_targets(size, boxes)])["loss_semantic"].item()
        for size in ((48, 64), (37, 45))
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def features(batch: int = 2) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {8: (9, 14), 16: (5, 7), 32: (3, 4)}  # rounded up, as strided convolutions do
    return {s: torch.randn(batch, 6, *shape, generator=generator) for s, shape in shapes.items()}


class TestSemanticHead:
    @pytest.fixture
    def head(self) -> SemanticHead:
        torch.manual_seed(0)
        return SemanticHead(in_channels=6, num_classes=4, channels=8)

    def test_knowing_nothing_costs_the_logarithm_of_the_number_of_classes(
        self, head: SemanticHead, make_targets: Callable[..., Targets]
    ) -> None:
        nn.init.zeros_(head.project.weight)
        nn.init.zeros_(head.project.bias)  # type: ignore[arg-type]
        targets = [make_targets((72, 112), [(0, 0, 50, 50)], [3])] * 2
        loss = head.loss(features(), targets)["loss_semantic"]
        assert loss.item() == pytest.approx(0.3 * math.log(5))

    def test_truth_is_the_corner_pixel_of_each_cell_and_padding_is_background(
        self, head: SemanticHead, make_targets: Callable[..., Targets]
    ) -> None:
        nn.init.zeros_(head.project.weight)
        with torch.no_grad():
            head.project.bias.copy_(torch.tensor([0.0, 0, 0, 0, 5]))  # type: ignore[union-attr]
        # 30×30 pixels of a batch padded to 72×112: cells 0..3 are in the image, the rest is not.
        target = make_targets((30, 30), [(5, 5, 25, 25)], [3])  # pixels 8, 16 and 24
        loss = head.loss(features(1), [target])["loss_semantic"]
        normaliser = math.log(math.exp(5) + 4)
        cells, hit = 9 * 14, 3 * 3
        expected = 0.3 * (hit * (normaliser - 5) + (cells - hit) * normaliser) / cells
        assert loss.item() == pytest.approx(expected, rel=1e-5)

    def test_no_say_in_the_bases(self, head: SemanticHead) -> None:
        basis_head = BasisHead(in_channels=6, channels=8, auxiliary=head).eval()
        before = basis_head(features()).maps
        for parameter in head.parameters():
            nn.init.constant_(parameter, 7)
        assert basis_head(features()).maps.equal(before)
