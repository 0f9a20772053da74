from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.ops import box_iou, roi_align

from b2inst.modules.faster_rcnn import RegionDetector
from b2inst.modules.mnc import MNCDetector, limit_gradient
from b2inst.structures import Features, ImageBatch, Targets

MakeTargets = Callable[..., Targets]
STRIDES = (4, 8, 16, 32)
SIZES = [(128, 128), (100, 120)]


def detector() -> MNCDetector:
    torch.manual_seed(0)
    return MNCDetector(
        in_channels=6,
        num_classes=2,
        strides=STRIDES,
        anchor_sizes=(8, 16, 32, 64),
        box_head=TwoMLPHead,
        hidden=16,
        mask_hidden=16,
        train_proposals=(50, 20),
        test_proposals=(50, 20),
        samples=16,
    )


def features(*, requires_grad: bool = False) -> Features:
    generator = torch.Generator().manual_seed(1)
    return {
        s: torch.randn(2, 6, 128 // s, 128 // s, generator=generator).requires_grad_(requires_grad)
        for s in STRIDES
    }


BATCH = ImageBatch(torch.zeros(2, 3, 128, 128), SIZES)
#: Of two images; some of one pixel, at the border and beyond it.
BOXES = [
    torch.tensor([[3.0, 5.0, 60.0, 50.0], [127.0, 127.0, 128.0, 128.0]]),
    torch.tensor([[-20.0, -8.0, 140.0, 130.0]]),
]


@torch.no_grad()
def test_each_stage_sees_what_the_one_before_predicted() -> None:
    """Region by region: a mask of the warped box, classes of box and masked features."""
    model, maps = detector().eval(), features()
    outputs = model.regions(maps, BOXES)
    flat = [(i, box) for i, own in enumerate(BOXES) for box in own]
    for n, ((image, box), stride) in enumerate(zip(flat, (4, 4, 8), strict=True)):
        roi = torch.cat([torch.tensor([image]), box])[None]
        pooled = roi_align(maps[stride], roi, 14, 1 / stride, 1, aligned=True)
        hidden = (model.mask[1].weight @ pooled.flatten() + model.mask[1].bias).relu()
        mask = (model.mask[4].weight @ hidden + model.mask[4].bias).view(28, 28)
        torch.testing.assert_close(outputs.mask_logits[n, 0], mask, atol=1e-4, rtol=1e-4)
        inside = torch.zeros(14, 14)
        for row, column in ((r, c) for r in range(14) for c in range(14)):
            cells = mask[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            inside[row, column] = cells.sigmoid().mean()
        halves = [F.max_pool2d(own, 2) for own in (pooled, pooled * inside)]
        joined = torch.cat([model.box_path(halves[0]), model.mask_path(halves[1])], 1)[0]
        for found, layer in (
            (outputs.class_logits, model.class_logits),
            (outputs.moves, model.moves),
        ):
            expected = layer.weight @ joined + layer.bias
            torch.testing.assert_close(found[n], expected, atol=1e-4, rtol=1e-4)


def test_proposals_are_torchvisions_with_a_gradient(make_targets: MakeTargets) -> None:
    model, maps = detector(), features()
    targets = [make_targets(size, [(10, 10, 60, 50)]) for size in SIZES]
    truths = model._truths(targets)
    torch.manual_seed(2)
    boxes, losses = model._propose(maps, BATCH, truths)
    torch.manual_seed(2)
    expected, same = RegionDetector._propose(model, maps, BATCH, truths)
    assert all(map(Tensor.equal, boxes, expected))
    assert losses == same
    (moved,) = torch.autograd.grad(boxes[0].sum(), model.rpn.head.bbox_pred.weight)
    assert moved.any()
    boxes, losses = model.eval()._propose(maps, BATCH)
    expected, _ = RegionDetector._propose(model, maps, BATCH)
    assert all(map(Tensor.equal, boxes, expected))
    assert not losses


def test_later_stages_train_the_boxes_of_earlier_ones() -> None:
    """Masks and classes have a gradient to the boxes that they are predicted in."""
    model = detector()
    boxes = [own.clone().requires_grad_() for own in BOXES]
    outputs = model.regions(features(), boxes)
    for part in (outputs.mask_logits, outputs.class_logits):
        gradients = torch.autograd.grad(part.square().sum(), boxes, retain_graph=True)
        assert all(own.abs().sum() > 0 for own in gradients)
    moved = model.moved(boxes, outputs.moves, BATCH)
    again = model.regions(features(), moved)
    (gradient,) = torch.autograd.grad(again.mask_logits.square().sum(), model.moves.weight)
    assert gradient.any()


def test_losses_are_of_both_times(make_targets: MakeTargets) -> None:
    model, seen = detector(), []
    targets = [
        make_targets(SIZES[0], [(10, 10, 60, 50), (127, 127, 128, 128)], [1, 0]),
        make_targets(SIZES[1], []),
    ]
    plain = model.region_losses
    model.region_losses = lambda *a: seen.append((a[1], plain(*a))) or seen[-1][1]  # type: ignore[method-assign]
    losses = model.loss(features(), BATCH, targets)
    (first, one), (second, two) = seen
    assert all(len(own) == 16 for own in first)
    assert (box_iou(first[0], targets[0].boxes) >= 0.5).any(0).all()
    assert not all(map(Tensor.equal, first, second))
    torch.testing.assert_close(losses["loss_class"], one[:, 0].mean() + two[:, 0].mean())
    torch.testing.assert_close(losses["loss_box"], one[:, 1].mean() + two[:, 1].mean())
    masks = sum(each[each[:, 2] > 0, 2].mean() for each in (one, two))
    torch.testing.assert_close(losses["loss_mask"], masks)
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_images_without_objects_and_without_proposals(make_targets: MakeTargets) -> None:
    model = detector()
    for least in (1e-3, 1e9):
        model.rpn.min_size = least
        losses = model.loss(features(), BATCH, [make_targets(size, []) for size in SIZES])
        assert losses["loss_box"] == losses["loss_mask"] == 0
        torch.stack(list(losses.values())).sum().backward()
    assert [len(found) for found in model.eval().detect(features(), BATCH)] == [0, 0]


def test_the_gradient_of_boxes_is_limited_and_not_that_of_losses() -> None:
    moves = torch.randn(5, 4, requires_grad=True)
    weights = torch.randn(5, 4) / 100
    limited = limit_gradient(moves, images=2)
    assert torch.equal(limited, moves)
    ((limited * weights).sum() + (3 * moves).sum()).backward()
    expected = 3 + weights.clamp(-1 / 1024, 1 / 1024)
    torch.testing.assert_close(moves.grad, expected)
    assert (weights.abs() > 1 / 1024).any()
    assert torch.equal(limit_gradient(weights, images=2), weights)  # without a gradient
