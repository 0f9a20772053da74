from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from b2inst.modules.boundary_basis import BoundaryLoss
from b2inst.structures import Targets

SIZE = (32, 48)
WEIGHTS = {"bce_weight": 2.0, "dice_weight": 0.5, "crisp_weight": 0.25}


def random_logits(batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 1, 8, 12, generator=torch.Generator().manual_seed(0))


def inner_boundary(mask: NDArray[np.bool_], *, outside: bool) -> NDArray[np.bool_]:
    eroded = ndimage.binary_erosion(mask, np.ones((3, 3)), border_value=outside)
    boundary: NDArray[np.bool_] = mask & ~eroded
    return boundary


def by_formula(logits: NDArray[np.float64], truth: NDArray[np.bool_]) -> dict[str, float]:
    """The weighted losses of one map."""
    p = 1 / (1 + np.exp(-logits))
    dice = (2 * (p * truth).sum() + 1) / ((p**2).sum() + truth.sum() + 1)
    return {
        "loss_boundary_bce": 2 * -np.where(truth, np.log(p), np.log(1 - p)).mean(),
        "loss_boundary_dice": 0.5 * (1 - dice),
        "loss_boundary_crisp": 0.25 * (1 / dice - 1),
    }


def values(losses: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: loss.item() for name, loss in losses.items()}


def test_over_the_image_the_truth_is_the_boundaries_union(
    make_targets: Callable[..., Targets],
) -> None:
    target = make_targets(SIZE, [(0, 0, 22, 22), (22, 4, 40, 30)])
    truth = np.zeros((8, 12), bool)
    for mask in target.masks.numpy():
        truth |= inner_boundary(mask[2::4, 2::4].astype(bool), outside=True)  # cell centres
    logits = random_logits()
    losses = BoundaryLoss(**WEIGHTS)(logits, 4, [target])
    assert values(losses) == pytest.approx(by_formula(logits[0, 0].double().numpy(), truth))


def test_in_rois_the_truth_is_each_instance_alone(make_targets: Callable[..., Targets]) -> None:
    """Boxes of whole cells at the RoI's own resolution: pooling then is OpenCV's area average."""
    boxes = [(0, 0, 16, 16), (16, 8, 32, 24)]
    target = make_targets(SIZE, boxes)
    target.masks[0, :, 8:] = 0  # half of its box; the neighbour stands in none of it
    logits = random_logits()
    fine = cv2.resize(logits[0, 0].numpy(), (48, 32), interpolation=cv2.INTER_LINEAR)
    expected = []
    for (x1, y1, x2, y2), mask in zip(boxes, target.masks.numpy(), strict=True):
        truth = inner_boundary(mask[y1:y2, x1:x2].astype(bool), outside=False)
        expected.append(by_formula(fine[y1:y2, x1:x2].astype(np.float64), truth))
    criterion = BoundaryLoss(local=True, **WEIGHTS)
    criterion.roi_size = 16
    mean = {name: np.mean([e[name] for e in expected]) for name in expected[0]}
    # Two samples a cell side instead of one at the centre: close, not equal.
    assert values(criterion(logits, 4, [target])) == pytest.approx(mean, rel=0.02)


def test_a_neighbours_boundary_counts_as_background_in_a_roi(
    make_targets: Callable[..., Targets],
) -> None:
    both = make_targets(SIZE, [(0, 0, 32, 32), (8, 8, 20, 20)])
    alone = make_targets(SIZE, [(0, 0, 32, 32)])
    logits = torch.full((1, 1, 8, 12), -6.0)
    logits[..., 2:5, 2:5] = 6.0  # the inner instance's boundary
    holistic, local = BoundaryLoss(), BoundaryLoss(local=True)
    name = "loss_boundary_bce"
    assert holistic(logits, 4, [both])[name] < holistic(logits, 4, [alone])[name]
    inside = local(logits, 4, [alone])[name]
    quiet = local(torch.full_like(logits, -6.0), 4, [alone])[name]
    assert inside > quiet


@pytest.mark.parametrize("local", [False, True])
def test_a_loss_of_weight_zero_is_left_out(
    local: bool, make_targets: Callable[..., Targets]
) -> None:
    targets = [make_targets(SIZE, [(4, 4, 20, 20)])] * 2
    made = BoundaryLoss(local=local, bce_weight=1.0, dice_weight=0.0)
    assert set(made(random_logits(2), 4, targets)) == {"loss_boundary_bce"}


@pytest.mark.parametrize("local", [False, True])
def test_right_predictions_cost_nothing(local: bool, make_targets: Callable[..., Targets]) -> None:
    """For the RoI: a box as large as the map at stride 1, pooled one to one."""
    criterion = BoundaryLoss(local=local, crisp_weight=0.0 if local else 1.0)
    criterion.roi_size = 32
    target = make_targets(
        (32, 32) if local else SIZE, [(0, 0, 32, 32)] if local else [(4, 4, 28, 28)]
    )
    target.masks[0, 8:16] = 0
    stride = 1 if local else 4
    small = target.masks[0, stride // 2 :: stride, stride // 2 :: stride].bool().numpy()
    truth = torch.from_numpy(inner_boundary(small, outside=not local))
    logits = torch.where(truth, 80.0, -80.0)[None, None]
    found = values(criterion(logits, stride, [target]))
    # A RoI's samples lie between the cells and blur a hard edge.
    assert max(found.values()) == pytest.approx(0, abs=1e-6) or local
    flipped = values(criterion(-logits, stride, [target]))
    assert all(flipped[name] > 5 * found[name] for name in found)


@pytest.mark.parametrize("local", [False, True])
def test_an_image_without_objects_does_no_harm(
    local: bool, make_targets: Callable[..., Targets]
) -> None:
    criterion = BoundaryLoss(local=local)
    logits = random_logits(2).requires_grad_()
    empty, other = make_targets(SIZE, []), make_targets(SIZE, [(4, 4, 20, 20)])
    for targets in ([empty, empty], [empty, other]):
        losses = criterion(logits, 4, targets)
        assert set(losses) == {"loss_boundary_bce", "loss_boundary_dice"}
        total = torch.stack(list(losses.values())).sum()
        assert total.isfinite()
        total.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
