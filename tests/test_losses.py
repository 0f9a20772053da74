from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.ops import generalized_box_iou

from b2inst.losses import (
    crisp_boundary_loss,
    cropped_mask_bce,
    dice_loss,
    focal_loss,
    hard_negative_cross_entropy,
    ltrb_giou_loss,
    mask_bce,
    mask_dice,
)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_focal_loss_is_the_formula_of_retinanet(random: np.random.Generator) -> None:
    logits = random.normal(size=(40, 3), scale=3)
    labels = random.integers(0, 4, 40)
    expected = 0.0
    for row, label in zip(logits, labels, strict=True):
        for c, x in enumerate(row):
            p = 1 / (1 + np.exp(-x))
            if c == label:
                expected -= 0.25 * (1 - p) ** 2 * np.log(p)
            else:
                expected -= 0.75 * p**2 * np.log(1 - p)
    got = focal_loss(torch.from_numpy(logits), torch.from_numpy(labels))
    assert got.item() == pytest.approx(expected, rel=1e-5)


def test_focal_loss_of_certain_background_is_nothing() -> None:
    assert focal_loss(torch.full((5, 3), -40.0), torch.full((5,), 3)) < 1e-12


def test_giou_loss_is_written_out_here(random: np.random.Generator) -> None:
    predicted, target = random.uniform(0.1, 8, (2, 30, 4))
    weights = random.random(30)
    expected = 0.0
    for p, t, weight in zip(predicted, target, weights, strict=True):
        inter = (min(p[0], t[0]) + min(p[2], t[2])) * (min(p[1], t[1]) + min(p[3], t[3]))
        hull = (max(p[0], t[0]) + max(p[2], t[2])) * (max(p[1], t[1]) + max(p[3], t[3]))
        union = (p[0] + p[2]) * (p[1] + p[3]) + (t[0] + t[2]) * (t[1] + t[3]) - inter
        expected += weight * (1 - ((inter + 1) / (union + 1) - (hull - union) / hull))
    got = ltrb_giou_loss(*(torch.from_numpy(a) for a in (predicted, target, weights)))
    assert got.item() == pytest.approx(expected, rel=1e-5)


def test_giou_loss_without_its_smoothing_is_torchvision(random: np.random.Generator) -> None:
    """Boxes of thousands of strides, where the added 1 counts for nothing."""
    predicted, target = torch.from_numpy(random.uniform(1e3, 8e3, (2, 30, 4))).float()
    sign = torch.tensor([-1, -1, 1, 1])
    expected = 1 - generalized_box_iou(predicted * sign, target * sign).diagonal()
    got = ltrb_giou_loss(predicted, target, torch.ones(30))
    assert got.item() == pytest.approx(expected.sum().item(), rel=1e-4)


def test_giou_loss_of_exact_and_of_no_boxes_is_zero() -> None:
    boxes = torch.rand(6, 4) + 0.1
    assert ltrb_giou_loss(boxes, boxes, torch.ones(6)).item() == pytest.approx(0, abs=1e-5)
    nothing = torch.zeros(0, 4, requires_grad=True)
    loss = ltrb_giou_loss(nothing, torch.zeros(0, 4), torch.zeros(0))
    assert loss.item() == 0
    loss.backward()


def test_giou_loss_of_an_empty_prediction_is_finite() -> None:
    predicted = torch.zeros(1, 4, requires_grad=True)
    ltrb_giou_loss(predicted, torch.zeros(1, 4) + 1e-6, torch.ones(1)).backward()
    assert predicted.grad is not None
    assert predicted.grad.isfinite().all()


def test_mask_bce_is_a_mean_for_each_roi(random: np.random.Generator) -> None:
    logits = random.normal(size=(3, 5, 5), scale=4)
    targets = random.random((3, 5, 5)) < 0.5
    p = 1 / (1 + np.exp(-logits))
    expected = -np.where(targets, np.log(p), np.log(1 - p)).mean((1, 2))
    got = mask_bce(torch.from_numpy(logits), torch.from_numpy(targets).float())
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_dice_loss_is_one_minus_dice(random: np.random.Generator) -> None:
    p = random.random((2, 9, 11))
    t = (random.random((2, 9, 11)) < 0.3).astype(np.float64)
    expected = [
        1 - (2 * (a * b).sum() + 1) / ((a * a).sum() + (b * b).sum() + 1)
        for a, b in zip(p, t, strict=True)
    ]
    got = dice_loss(torch.from_numpy(p), torch.from_numpy(t))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("loss", [dice_loss, crisp_boundary_loss])
def test_boundary_losses_are_zero_exactly_where_right(loss: object) -> None:
    assert callable(loss)
    right = (torch.rand(2, 8, 8) < 0.4).float()
    assert loss(right, right).tolist() == [0, 0]
    assert (loss(1 - right, right) > 0.9).all()
    nothing = torch.zeros(2, 8, 8)
    assert loss(nothing, nothing).tolist() == [0, 0]


def test_mask_dice_has_its_epsilon_in_the_denominator_alone(random: np.random.Generator) -> None:
    p, t = random.random((3, 4, 5)), (random.random((3, 4, 5)) > 0.5).astype(float)
    p[2] *= 1e-3
    t[1] = 0
    expected = [
        1 - 2 * (a * b).sum() / ((a**2).sum() + (b**2).sum() + 1e-5)
        for a, b in zip(p, t, strict=True)
    ]
    got = mask_dice(torch.from_numpy(p), torch.from_numpy(t.astype(np.uint8)))
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    assert got[1] == 1
    nothing = torch.zeros(1, 4, 5)
    assert mask_dice(nothing, nothing) == 1
    assert mask_dice(nothing[:0], nothing[:0]).shape == (0,)


def test_crisp_loss_is_the_inverse_dice_and_punishes_a_miss_harder() -> None:
    truth = torch.zeros(1, 16, 16)
    truth[0, 4] = 1
    soft = truth * 0.2
    dice = 1 - dice_loss(soft, truth)
    assert crisp_boundary_loss(soft, truth).item() == pytest.approx(1 / dice.item() - 1)
    assert crisp_boundary_loss(soft, truth) > dice_loss(soft, truth)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_in_single_precision_out(dtype: torch.dtype) -> None:
    half = torch.rand(2, 4, 4).to(dtype)
    truth = torch.ones(2, 4, 4)
    assert focal_loss(half[:, 0], torch.zeros(2, dtype=torch.int64)).dtype == torch.float32
    assert mask_bce(half, truth).dtype == torch.float32
    assert dice_loss(half, truth).dtype == torch.float32
    assert crisp_boundary_loss(half, truth).dtype == torch.float32
    assert ltrb_giou_loss(half[0], truth[0], torch.ones(4)).dtype == torch.float32


def test_negatives_least_taken_for_background_count_three_for_a_positive() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 40, 4, generator=generator, dtype=torch.float64)
    labels = torch.zeros(2, 40, dtype=torch.int64)
    labels[0, [3, 11]] = torch.tensor([1, 3])
    labels[0, 20:25] = -1  # left out, however hard
    logits[0, 20:25, 2] = 9
    cost = -logits.log_softmax(2)
    expected = cost[0, 3, 1] + cost[0, 11, 3]
    background = [i for i in range(40) if labels[0, i] == 0]
    expected += sum(sorted((cost[0, i, 0] for i in background), reverse=True)[:6])
    got = hard_negative_cross_entropy(logits, labels)
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)


def test_there_may_be_too_few_negatives() -> None:
    logits = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 2, 0, 0, -1]])
    expected = -logits.log_softmax(2)[0, torch.arange(4), labels[0, :4]].sum()
    assert hard_negative_cross_entropy(logits, labels).item() == pytest.approx(expected.item())
    assert hard_negative_cross_entropy(logits, torch.zeros_like(labels)).item() == 0


def test_a_target_beyond_the_crop_costs_100() -> None:
    probabilities = torch.tensor([[[0.5, 0.0, 0.0]], [[0.5, 0.25, 0.0]]])
    targets = torch.tensor([[[1.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]]])
    boxes = torch.tensor([[0.0, 0, 2, 1], [0, 0, 4, 2]])
    loss = cropped_mask_bce(probabilities, targets, boxes)
    expected = [(np.log(2) + 100) / 2, (np.log(2) + np.log(4)) / 8]
    assert loss.tolist() == pytest.approx(expected)


def test_mixed_precision_of_a_gpu_admits_the_cropped_loss() -> None:
    enabled = torch.is_autocast_enabled("cuda")
    torch.set_autocast_enabled("cuda", True)
    try:
        with FakeTensorMode():  # a GPU's tensors without their values
            probabilities = torch.rand(2, 4, 4, device="cuda", dtype=torch.float16)
            boxes = torch.rand(2, 4, device="cuda")
            loss = cropped_mask_bce(probabilities, torch.ones(2, 4, 4, device="cuda"), boxes)
            assert loss.dtype == torch.float32
    finally:
        torch.set_autocast_enabled("cuda", enabled)
