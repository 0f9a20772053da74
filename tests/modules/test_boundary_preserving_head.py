from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve
from torch import nn

from b2inst.modules.layers import RoIPooler
from b2inst.modules.mask_heads import BoundaryPreservingHead, boundary_loss
from b2inst.structures import Features, RoISamples, Targets

BOXES = [torch.tensor([[4.0, 4, 40, 60]]), torch.tensor([[9.0, 10, 60, 50], [0, 0, 128, 128]])]


def make() -> BoundaryPreservingHead:
    torch.manual_seed(0)
    head = BoundaryPreservingHead(
        in_channels=6, num_classes=5, pooler=RoIPooler(strides=(4, 8), size=14), channels=8
    )
    for predictor in (head.mask_predictor, head.boundary_predictor):
        nn.init.normal_(predictor.mask_fcn_logits.weight)  # so that differences are seen
    return head


def features(seed: int) -> Features:
    generator = torch.Generator().manual_seed(seed)
    return {s: torch.rand(2, 6, 128 // s, 128 // s, generator=generator) for s in (4, 8)}


def silence(conv: nn.Module) -> None:
    nn.init.zeros_(conv.weight)  # type: ignore[arg-type]
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]


def test_masks_and_boundaries_for_each_class() -> None:
    outputs = make()(features(0), BOXES)
    assert outputs.pooled.shape == (3, 6, 14, 14)
    assert outputs.logits.shape == (3, 5, 28, 28)
    assert outputs.boundary_logits is not None
    assert outputs.boundary_logits.shape == (3, 5, 28, 28)


def test_each_branch_feeds_the_other() -> None:
    """Cut one way, a branch is what it is without the other's features."""
    head = make()
    one, other = features(0), features(1)
    coarse = {4: one[4], 8: other[8]}  # of the large box, only the mask branch reads stride 8
    large = [torch.zeros(0, 4), BOXES[1][1:]]
    assert head.pooler.level(large).tolist() == [1]
    before, after = (head(of, large).boundary_logits for of in (one, coarse))
    assert not torch.equal(before, after)
    silence(head.mask_to_boundary)
    before, after = (head(of, large).boundary_logits for of in (one, coarse))
    assert torch.equal(before, after)

    fine = {4: other[4], 8: one[8]}
    before, after = (head(of, large).logits for of in (one, fine))
    assert not torch.equal(before, after)
    silence(head.boundary_to_mask)
    before, after = (head(of, large).logits for of in (one, fine))
    assert torch.equal(before, after)


def test_the_boundary_loss_is_bmask_r_cnns() -> None:
    """Laplacian with zeros around, clamped, above 0.1; cross-entropy and Dice without squares."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(3, 5, 28, 28))
    truths = random.random((3, 28, 28)) > 0.3
    labels = [4, 0, 2]
    kernel = np.full((3, 3), -1)
    kernel[1, 1] = 8
    cells, dice = [], []
    for i, k in enumerate(labels):
        response = convolve(truths[i].astype(float), kernel, mode="constant")
        target = (response.clip(min=0) > 0.1).astype(float)
        p = 1 / (1 + np.exp(-logits[i, k]))
        cells.append(-(target * np.log(p) + (1 - target) * np.log(1 - p)).mean())
        dice.append(1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1))
    loss = boundary_loss(
        torch.from_numpy(logits), torch.tensor(labels), torch.from_numpy(truths).float()
    )
    assert loss.item() == pytest.approx(np.mean(cells) + np.mean(dice), rel=1e-5)


def test_no_boxes(make_targets: Callable[..., Targets]) -> None:
    head = make()
    outputs = head(features(0), [torch.zeros(0, 4)] * 2)
    nothing = RoISamples(torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).long())
    losses = head.loss(outputs, [nothing] * 2, [make_targets((64, 64), [])] * 2)
    assert {name: value.item() for name, value in losses.items()} == {
        "loss_mask": 0,
        "loss_boundary": 0,
    }
    torch.stack(list(losses.values())).sum().backward()
