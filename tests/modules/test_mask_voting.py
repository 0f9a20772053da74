"""Votes of masks, and what detectors that have them share."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from b2inst.modules.mask_voting import (
    RegionOutputs,
    View,
    VotingDetector,
    mean_losses,
    vote_masks,
)
from b2inst.structures import Features, ImageBatch, Targets

MakeTargets = Callable[..., Targets]
STRIDES = (4, 8)


def slow_value(mask: Tensor, box: list[float], x: float, y: float) -> float:
    """A mask over a box at a point of the image, linear between cells and 0 around them."""
    size = len(mask)
    u = (x - box[0]) / (box[2] - box[0]) * size - 0.5
    v = (y - box[1]) / (box[3] - box[1]) * size - 0.5
    total = 0.0
    for row, column in product(
        (math.floor(v), math.floor(v) + 1), (math.floor(u), math.floor(u) + 1)
    ):
        if 0 <= row < size and 0 <= column < size:
            total += (1 - abs(v - row)) * (1 - abs(u - column)) * float(mask[row, column])
    return total


@pytest.mark.parametrize("by_class", [True, False])
def test_masks_are_averaged_point_by_point(by_class: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor(
        [[0, 0, 20, 30], [2, -1, 21, 28], [0, 0, 9, 30], [40, 40, 41, 41], [1, 1, 20, 33.0]]
    )
    masks = torch.rand(5, 3 if by_class else 1, 6, 6, generator=generator)
    scores = torch.rand(5, 3, generator=generator)
    rows, labels = torch.tensor([0, 4, 3, 0]), torch.tensor([1, 0, 2, 2])
    found = vote_masks(masks, boxes, scores, rows, labels)
    near = box_iou(boxes, boxes) >= 0.5
    assert near.sum(1).tolist() == [3, 3, 1, 1, 3]
    for mask, row, label in zip(found, rows.tolist(), labels.tolist(), strict=True):
        x1, y1, x2, y2 = boxes[row].tolist()
        for i, j in product(range(6), range(6)):
            x, y = x1 + (j + 0.5) / 6 * (x2 - x1), y1 + (i + 0.5) / 6 * (y2 - y1)
            votes = total = 0.0
            for k in near[row].nonzero()[:, 0].tolist():
                own = masks[k, label if by_class else 0]
                votes += float(scores[k, label]) * slow_value(own, boxes[k].tolist(), x, y)
                total += float(scores[k, label])
            assert mask[i, j].item() == pytest.approx(votes / total, abs=1e-4)


def test_a_mask_alone_is_kept_and_there_may_be_none() -> None:
    masks, boxes = torch.rand(2, 1, 7, 7), torch.tensor([[0, 0, 9.0, 9], [50, 50, 51, 51]])
    scores, rows = torch.rand(2, 1), torch.tensor([1, 0])
    found = vote_masks(masks, boxes, scores, rows, torch.tensor([0, 0]))
    torch.testing.assert_close(found, masks[rows, 0], atol=1e-4, rtol=1e-4)
    none = torch.zeros(0, dtype=torch.int64)
    assert vote_masks(masks, boxes, scores, none, none).shape == (0, 7, 7)
    assert vote_masks(masks[:0], boxes[:0], scores[:0], none, none).shape == (0, 7, 7)


class Painted(VotingDetector):
    """Reads the outputs of a region from its corners, and takes notes."""

    def __init__(self) -> None:
        super().__init__(in_channels=4, strides=STRIDES, anchor_sizes=(8, 16), samples=32)
        self.seen: list[tuple[object, list[Tensor]]] = []

    def regions(self, maps: object, boxes: list[Tensor]) -> RegionOutputs:
        self.seen.append((maps, boxes))
        every = torch.cat(boxes)
        logits = every[:, :3] / 100
        masks = every[:, :1, None, None] + torch.arange(4.0) - 30
        return RegionOutputs(logits, every / 1000, masks.expand(-1, 2, 4, 4))


@pytest.fixture
def features() -> Features:
    generator = torch.Generator().manual_seed(1)
    return {s: torch.randn(2, 4, 64 // s, 96 // s, generator=generator) for s in STRIDES}


@pytest.fixture
def batch() -> ImageBatch:
    return ImageBatch(torch.zeros(2, 3, 64, 96), [(64, 96), (50, 80)])


@pytest.fixture
def detector() -> Painted:
    torch.manual_seed(0)
    made = Painted().eval()
    made.score_threshold = 0.0
    return made


def test_proposals_are_seen_and_seen_again_where_they_moved(
    detector: Painted, features: Features, batch: ImageBatch
) -> None:
    """By the parametrisation of R-CNN with weights 10, 10, 5, 5, and clipped."""
    found = detector.detect(features, batch)
    (_, first), (_, second) = detector.seen
    for own, moved, (height, width) in zip(first, second, batch.sizes, strict=True):
        dx, dy, dw, dh = (own / 1000 / torch.tensor([10, 10, 5, 5])).unbind(1)
        wide, high = (own[:, 2:] - own[:, :2]).unbind(1)
        x, y = own[:, 0] + wide * (0.5 + dx), own[:, 1] + high * (0.5 + dy)
        wide, high = wide * dw.exp(), high * dh.exp()
        expected = torch.stack([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2], 1)
        limits = torch.tensor([width, height] * 2)
        torch.testing.assert_close(moved, expected.clamp(min=0).minimum(limits))
    for one, own, moved in zip(found, first, second, strict=True):
        assert one.coefficients.shape == (100, 16)
        assert ((one.coefficients >= 0) & (one.coefficients <= 1)).all()
        every = torch.cat([own, moved])
        scores = (every[:, :3] / 100).softmax(1)[:, 1:]
        for box, score, label in zip(one.boxes, one.scores, one.labels, strict=True):
            same = (every == box).all(1)
            assert (scores[same, label] - score).abs().min() < 1e-6


def test_no_proposals_and_no_detections(
    detector: Painted, features: Features, batch: ImageBatch
) -> None:
    detector.score_threshold = 1.0
    assert [d.coefficients.shape for d in detector.detect(features, batch)] == [(0, 16)] * 2
    detector.rpn.min_size = 1e9
    detector.score_threshold = 0.0
    assert [d.coefficients.shape for d in detector.detect(features, batch)] == [(0, 16)] * 2
    one = [View(scale, 96, None, None) for scale in (1, 2)]
    assert [len(d) for d in detector.detect(features, batch, one)] == [0, 0]


def test_four_hundred_detections(detector: Painted, features: Features, batch: ImageBatch) -> None:
    detector.max_detections = 400
    detector.roi_heads.nms_thresh = 1.0
    found = detector.detect(features, batch)
    assert [d.coefficients.shape for d in found] == [(400, 16)] * 2
    assert all(d.coefficients.isfinite().all() for d in found)


def test_regions_are_seen_at_the_best_scale_and_mirrored(
    detector: Painted, features: Features, batch: ImageBatch
) -> None:
    detector.side = 20
    views = [View(scale, int(96 * scale), f"{scale}", f"{scale} back") for scale in (0.5, 1, 2)]
    boxes = [
        torch.tensor([[0.0, 0, 40, 40], [10, 10, 20, 21]]),
        torch.tensor([[5, 5, 24.0, 25], [70, 3, 71, 4], [0, 0, 39, 41]]),
    ]
    outputs = detector._from_views(views, boxes)
    seen = dict(detector.seen)
    chosen = {"0.5": [[0], [2]], "1": [[], [0]], "2": [[1], [1]]}
    assert list(seen) == [name for scale in chosen for name in (scale, f"{scale} back")]
    for view in views:
        for own, rows, plain, back in zip(
            boxes, chosen[view.maps], seen[view.maps], seen[view.mirrored], strict=True
        ):
            torch.testing.assert_close(plain, own[rows] * view.scale)
            x1, y1, x2, y2 = plain.unbind(1)
            expected = torch.stack([view.width - x2, y1, view.width - x1, y2], 1)
            torch.testing.assert_close(back, expected)
    order = [view for own in ([0.5, 2], [1, 2, 0.5]) for view in own]
    for n, (box, scale) in enumerate(zip(torch.cat(boxes), order, strict=True)):
        x1, y1, x2, y2 = (box * scale).tolist()
        mirror = [96 * scale - x2, y1, 96 * scale - x1, y2]
        logits = [(a + b) / 200 for a, b in zip((x1, y1, x2), mirror, strict=False)]
        assert outputs.class_logits[n].tolist() == pytest.approx(logits)
        moves = [
            (x1 - mirror[0]) / 2000,
            *((a + b) / 2000 for a, b in ((y1, y1), (x2, mirror[2]), (y2, y2))),
        ]
        assert outputs.moves[n].tolist() == pytest.approx(moves)
        columns = [(x1 + k - 30 + mirror[0] + 3 - k - 30) / 2 for k in range(4)]
        assert outputs.mask_logits[n, 1, 2].tolist() == pytest.approx(columns, abs=1e-4)


def test_losses_of_regions(detector: Painted, make_targets: MakeTargets) -> None:
    """On their objects' classes, boxes and masks; regions of background have a class only."""
    boxes = [
        torch.tensor([[0.0, 0, 20, 20], [40, 40, 60, 60]]),
        torch.tensor([[3.0, 3, 33, 33], [60, 40, 70, 50]]),
    ]
    targets = [
        make_targets((64, 96), []),
        make_targets((64, 96), [(60, 40, 70, 50), (0, 0, 30, 30)], [0, 1]),
    ]
    outputs = RegionOutputs(torch.randn(4, 3), torch.randn(4, 4), torch.randn(4, 2, 10, 10))
    each = detector.region_losses(outputs, boxes, targets)
    labels = torch.tensor([0, 0, 2, 1])
    logits = outputs.class_logits
    torch.testing.assert_close(each[:, 0], logits.logsumexp(1) - logits[range(4), labels])
    assert each[:2, 1:].eq(0).all()
    for row, move in ((2, [-1.0, -1, 0, 0]), (3, [0.0] * 4)):
        error = (outputs.moves[row] - torch.tensor(move)).abs()
        error = torch.where(error < 1 / 9, 4.5 * error**2, error - 1 / 18)
        torch.testing.assert_close(each[row, 1], error.sum())
    truth = torch.zeros(10, 10)
    truth[:9, :9] = 1  # of 3×3 pixels a cell
    p = outputs.mask_logits[2, 1].sigmoid()
    torch.testing.assert_close(each[2, 2], -torch.where(truth > 0, p, 1 - p).log().mean())
    torch.testing.assert_close(each[3, 2], -outputs.mask_logits[3, 0].sigmoid().log().mean())
    means = mean_losses(each)
    assert means["loss_class"] == each[:, 0].mean()
    assert means["loss_box"] == each[:, 1].mean()
    assert means["loss_mask"] == each[2:, 2].mean()
    assert all(value == 0 for value in mean_losses(each[:0]).values())
