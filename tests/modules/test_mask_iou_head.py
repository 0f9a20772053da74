from __future__ import annotations

import numpy as np
import pytest
import torch

from b2inst.modules.mask_heads import MaskIoUHead, mask_iou_target
from b2inst.ops.masks import crop_masks, share_inside
from b2inst.structures import RoIOutputs, RoISamples, Targets


def make() -> MaskIoUHead:
    torch.manual_seed(0)
    return MaskIoUHead(in_channels=6, num_classes=5, channels=8, hidden=16)


def test_is_as_large_as_the_published_one() -> None:
    with torch.device("meta"):
        head = MaskIoUHead(in_channels=256, num_classes=80)
    convs = 257 * 256 * 9 + 256 + 3 * (256 * 256 * 9 + 256)
    hidden = 256 * 7 * 7 * 1024 + 1024 + 1024 * 1024 + 1024
    assert sum(p.numel() for p in head.parameters()) == convs + hidden + 1024 * 80 + 80


def test_the_target_counts_what_the_box_cuts_off() -> None:
    """Against the IoU of whole masks, drawn in the image, for a box of 28×28 pixels."""
    object_ = torch.zeros(64, 64, dtype=torch.uint8)
    object_[10:50, 20:44] = 1
    box = torch.tensor([[16.0, 18, 44, 46]])
    predicted = torch.zeros(64, 64, dtype=torch.bool)
    predicted[20:46, 16:40] = True
    index = torch.tensor([0])
    truths = crop_masks(object_[None], box, 28)
    inside = share_inside(object_[None], box, index)
    expected = (predicted & object_.bool()).sum() / (predicted | object_.bool()).sum()
    got = mask_iou_target(predicted[None, 18:46, 16:44], truths, inside)
    assert got.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_target_of_masks_without_anything() -> None:
    empty, full = torch.zeros(1, 28, 28), torch.ones(1, 28, 28)
    nothing, all_ = torch.zeros(1), torch.ones(1)
    assert mask_iou_target(empty.bool(), full, all_).item() == 0
    assert mask_iou_target(full.bool(), empty, nothing).item() == 0
    assert mask_iou_target(empty.bool(), empty, nothing).item() == 0
    assert mask_iou_target(full.bool(), full, all_).item() == 1


def test_the_loss_is_over_masks_that_hit_their_object() -> None:
    head = make()
    generator = torch.Generator().manual_seed(0)
    pooled = torch.rand(3, 6, 14, 14, generator=generator)
    logits = torch.randn(3, 5, 28, 28, generator=generator).requires_grad_()
    labels = torch.tensor([4, 0, 2])
    with torch.no_grad():
        logits[2, 2] = -1  # an empty mask: its IoU is 0
    truths = (torch.rand(3, 28, 28, generator=generator) > 0.5).float()
    inside = torch.tensor([1.0, 0.5, 1.0])
    # Boxes of 28×28 pixels, a cell each; the second object is as large outside its box.
    objects = torch.zeros(3, 64, 64, dtype=torch.uint8)
    objects[:, 4:32, 6:34] = truths.byte()
    objects[1, 32:60, 34:62] = truths[1].byte()
    box = torch.tensor([6.0, 4, 34, 32])
    target = Targets(0, box.expand(3, -1), labels, objects, objects[0])
    samples = RoISamples(box.expand(3, -1), labels, torch.arange(3))
    (loss,) = head.loss(RoIOutputs(pooled, logits), [samples], [target]).values()

    masks = torch.stack([logits[i, k] for i, k in enumerate(labels.tolist())]).detach()
    predicted = head(pooled, masks.sigmoid()).detach().numpy()
    errors = []
    for i, k in enumerate((4, 0)):
        a, b = masks[i].numpy() > 0, truths[i].numpy() > 0
        iou = (a & b).sum() / (a.sum() + b.sum() / inside[i].item() - (a & b).sum())
        errors.append((predicted[i, k] - iou) ** 2)
    assert loss.item() == pytest.approx(0.5 * np.mean(errors), rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    reached = logits.grad.abs().sum((2, 3)) > 0  # the mask is bent by its rating, as published
    assert reached.nonzero().tolist() == [[0, 4], [1, 0]]


def test_no_boxes() -> None:
    head = make()
    outputs = RoIOutputs(torch.zeros(0, 6, 14, 14), torch.zeros(0, 5, 28, 28))
    nothing = torch.zeros(0).long()
    target = Targets(0, torch.zeros(0, 4), nothing, torch.zeros(0, 64, 64), torch.zeros(64, 64))
    samples = RoISamples(torch.zeros(0, 4), nothing, nothing)
    (loss,) = head.loss(outputs, [samples], [target]).values()
    assert loss == 0
    loss.backward()
