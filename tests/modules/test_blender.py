from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.special import expit, softmax

from b2inst.modules.blender import Blender
from b2inst.structures import Bases, Positives, Targets

K, A, R = 3, 4, 12


@pytest.fixture
def blender() -> Blender:
    return Blender(num_bases=K, attention_size=A, roi_size=R)


@pytest.fixture
def bases() -> Bases:
    return Bases(torch.randn(2, K, 16, 20, generator=torch.Generator().manual_seed(0)), stride=4)


def bilinear(image: np.ndarray, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    grid = np.meshgrid(ys, xs, indexing="ij")
    return ndimage.map_coordinates(image.astype(np.float64), grid, order=1, mode="nearest")


def by_hand(maps: np.ndarray, box: list[float], coefficients: np.ndarray) -> np.ndarray:
    """One mask, K×h×w bases and K·A·A coefficients, in NumPy and SciPy."""
    x1, y1, x2, y2 = (side / 4 for side in box)
    centres = (np.arange(R) + 0.5) / R  # one sample in the middle of each bin
    ys, xs = y1 + centres * (y2 - y1) - 0.5, x1 + centres * (x2 - x1) - 0.5
    rois = np.stack([bilinear(basis, ys, xs) for basis in maps])
    spread = (np.arange(R) + 0.5) / R * A - 0.5
    attention = [bilinear(a, spread, spread) for a in coefficients.reshape(K, A, A)]
    return expit((rois * softmax(attention, axis=0)).sum(0))


def test_masks_are_those_of_a_written_out_blend(blender: Blender, bases: Bases) -> None:
    boxes = [
        torch.tensor([[8.0, 4, 60, 50], [10, 20, 11, 21]]),
        torch.tensor([[3.5, 7.25, 30, 63]]),
    ]
    coefficients = torch.randn(
        3, blender.num_coefficients, generator=torch.Generator().manual_seed(1)
    )
    masks = blender.assemble(bases, boxes, coefficients)
    assert masks.probabilities.shape == (3, R, R)
    torch.testing.assert_close(masks.boxes, torch.cat(boxes))
    for i, (b, box) in enumerate([(0, boxes[0][0]), (0, boxes[0][1]), (1, boxes[1][0])]):
        expected = by_hand(bases.maps[b].numpy(), box.tolist(), coefficients[i].numpy())
        np.testing.assert_allclose(masks.probabilities[i], expected, atol=1e-5)


def test_attention_sums_to_one(blender: Blender) -> None:
    attention = blender.attention(10 * torch.randn(5, blender.num_coefficients))
    assert attention.shape == (5, K, R, R)
    torch.testing.assert_close(attention.sum(1), torch.ones(5, R, R))


@pytest.mark.parametrize(("num_bases", "size"), [(4, 7), (4, 14), (5, 7)])
def test_as_many_coefficients_as_attention_cells(num_bases: int, size: int) -> None:
    blender = Blender(num_bases=num_bases, attention_size=size)
    assert blender.num_coefficients == num_bases * size * size


def test_no_instances(blender: Blender, bases: Bases) -> None:
    nothing = torch.zeros(0, 4)
    masks = blender.assemble(bases, [nothing, nothing], torch.zeros(0, blender.num_coefficients))
    assert masks.probabilities.shape == (0, R, R)
    assert masks.paste(nothing, (64, 80), (64, 80)).shape == (0, 64, 80)


def positives(blender: Blender, target_index: list[int], weights: list[float]) -> Positives:
    generator = torch.Generator().manual_seed(2)
    return Positives(
        image_index=torch.zeros(len(weights), dtype=torch.int64),
        target_index=torch.tensor(target_index, dtype=torch.int64),
        coefficients=torch.randn(len(weights), blender.num_coefficients, generator=generator),
        weights=torch.tensor(weights),
        weight_sum=max(sum(weights), 1e-6),
    )


def test_loss_is_the_weighted_mean_of_each_positives_cross_entropy(
    blender: Blender, bases: Bases, make_targets: Callable[..., Targets]
) -> None:
    boxes = [(4, 8, 4 + 2 * R, 8 + R), (20, 20, 20 + R, 20 + 3 * R)]  # whole blocks for each bin
    target = make_targets((64, 80), boxes)
    target.masks[0, 8:14] = 0
    chosen = positives(blender, [0, 1, 0], [0.5, 1, 0.25])
    expected = 0.0
    for i, k in enumerate([0, 1, 0]):
        mask = by_hand(bases.maps[0].numpy(), list(boxes[k]), chosen.coefficients[i].numpy())
        truth = np.ones((R, R), bool)
        truth[:6] = k == 1
        loss = -np.where(truth, np.log(mask), np.log(1 - mask)).mean()
        expected += chosen.weights[i].item() * loss / 1.75
    one = Bases(bases.maps[:1], 4)
    assert blender.loss(one, chosen, [target])["loss_mask"].item() == pytest.approx(
        expected, rel=1e-4
    )


def test_loss_without_positives_is_zero_and_differentiable(
    blender: Blender, bases: Bases, make_targets: Callable[..., Targets]
) -> None:
    maps = bases.maps.requires_grad_()
    empty = [make_targets((64, 80), []), make_targets((64, 80), [])]
    loss = blender.loss(Bases(maps, 4), positives(blender, [], []), empty)["loss_mask"]
    assert loss.item() == 0
    loss.backward()
    assert maps.grad is not None
    assert not maps.grad.any()


def test_one_pixel_and_border_instances_have_finite_losses(
    blender: Blender, bases: Bases, make_targets: Callable[..., Targets]
) -> None:
    target = make_targets((64, 80), [(0, 0, 1, 1), (79, 63, 80, 64), (0, 0, 80, 64)])
    chosen = positives(blender, [0, 1, 2], [1, 1, 1])
    assert blender.loss(Bases(bases.maps[:1], 4), chosen, [target])["loss_mask"].isfinite()


class AddGuide(torch.nn.Module):
    def forward(self, logits: torch.Tensor, boundary: torch.Tensor | None) -> torch.Tensor:
        assert boundary is not None
        return logits + 10 * boundary


def test_masks_are_refined_by_the_boundary_in_their_box(bases: Bases) -> None:
    blender = Blender(num_bases=K, attention_size=A, roi_size=R, refinement=AddGuide())
    boundary = torch.randn(2, 1, 16, 20, generator=torch.Generator().manual_seed(2))
    guided = Bases(bases.maps, bases.stride, boundary)
    box = [8.0, 4, 60, 50]
    coefficients = torch.zeros(1, blender.num_coefficients)
    found = blender.assemble(
        guided, [torch.tensor([box]), torch.zeros(0, 4)], coefficients
    ).probabilities[0]
    equal = np.zeros(K * A * A)  # by zeros the bases are averaged
    maps = bases.maps[0].numpy() + 10 * boundary[0].numpy()
    np.testing.assert_allclose(found, by_hand(maps, box, equal), atol=1e-5)


def test_what_is_trained_is_what_is_refined(bases: Bases) -> None:
    """The loss is that of the masks that ``assemble`` would give."""
    blender = Blender(num_bases=K, attention_size=A, roi_size=R, refinement=AddGuide())
    guided = Bases(bases.maps, bases.stride, torch.randn(2, 1, 16, 20))
    boxes = [torch.tensor([[8.0, 4, 60, 50]]), torch.tensor([[4.0, 4, 40, 44]])]
    truth = torch.ones(1, 64, 80, dtype=torch.uint8)
    targets = [
        Targets(i, b, torch.zeros(1, dtype=torch.int64), truth, truth[0])
        for i, b in enumerate(boxes)
    ]
    coefficients = torch.randn(1, blender.num_coefficients)
    positives = Positives(torch.tensor([1]), torch.tensor([1]), coefficients, torch.ones(1), 1.0)
    loss = blender.loss(guided, positives, targets)["loss_mask"]
    masks = blender.assemble(guided, [boxes[0][:0], boxes[1]], coefficients)
    expected = -masks.probabilities.clamp(min=1e-12).log().mean()  # all of the box is the object
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)
