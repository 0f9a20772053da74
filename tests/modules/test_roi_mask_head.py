from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from b2inst.modules.layers import RoIPooler
from b2inst.modules.mask_heads import RoIMaskHead, class_mask_loss
from b2inst.structures import RoISamples, Targets

FEATURES = {4: torch.rand(2, 6, 32, 32), 8: torch.rand(2, 6, 16, 16)}
BOXES = [torch.tensor([[4.0, 4, 40, 60]]), torch.tensor([[9.0, 10, 60, 50], [0, 0, 128, 128]])]


def make() -> RoIMaskHead:
    torch.manual_seed(0)
    return RoIMaskHead(
        in_channels=6, num_classes=5, pooler=RoIPooler(strides=(4, 8), size=14), channels=8
    )


def test_a_mask_for_each_class() -> None:
    outputs = make()(FEATURES, BOXES)
    assert outputs.pooled.shape == (3, 6, 14, 14)
    assert outputs.logits.shape == (3, 5, 28, 28)
    chosen = outputs.of_class(torch.tensor([4, 0, 2]))
    assert chosen.equal(torch.stack([outputs.logits[i, k] for i, k in enumerate((4, 0, 2))]))


def test_only_the_mask_of_the_objects_class_is_trained() -> None:
    head = make()
    outputs = head(FEATURES, BOXES)
    outputs.logits.retain_grad()
    truths = (torch.rand(3, 28, 28) > 0.5).float()
    labels = torch.tensor([4, 0, 2])
    loss = class_mask_loss(outputs.logits, labels, truths)
    cells = [
        F.binary_cross_entropy(outputs.logits[i, k].sigmoid(), truths[i]).item()
        for i, k in enumerate(labels.tolist())
    ]
    assert loss.item() == pytest.approx(sum(cells) / 3)
    loss.backward()
    assert outputs.logits.grad is not None
    trained = outputs.logits.grad.abs().sum((2, 3)) > 0
    assert trained.nonzero().tolist() == [[0, 4], [1, 0], [2, 2]]


def test_truths_are_the_objects_of_the_samples_in_their_boxes(
    make_targets: Callable[..., Targets],
) -> None:
    """Boxes of 28×28 pixels, a cell each."""
    head = make()
    boxes = [torch.tensor([[10.0, 20, 38, 48]]), torch.tensor([[0.0, 0, 28, 28]])]
    targets = [make_targets((64, 64), [(0, 0, 9, 9), (20, 30, 60, 60)]) for _ in boxes]
    samples = [RoISamples(b, torch.tensor([3]), torch.tensor([1 - i])) for i, b in enumerate(boxes)]
    outputs = head(FEATURES, boxes)
    truths = torch.stack([targets[0].masks[1, 20:48, 10:38], targets[1].masks[0, :28, :28]]).float()
    expected = class_mask_loss(outputs.logits, torch.tensor([3, 3]), truths)
    assert head.loss(outputs, samples, targets)["loss_mask"] == expected


def test_no_boxes(make_targets: Callable[..., Targets]) -> None:
    head = make()
    outputs = head(FEATURES, [torch.zeros(0, 4)] * 2)
    assert outputs.logits.shape == (0, 5, 28, 28)
    nothing = RoISamples(torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).long())
    (loss,) = head.loss(outputs, [nothing] * 2, [make_targets((64, 64), [])] * 2).values()
    assert loss == 0
    loss.backward()
