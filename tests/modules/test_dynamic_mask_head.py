from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import expit

from b2inst.modules.dynamic_mask_head import DynamicMaskHead
from b2inst.ops.frame_masks import aligned_bilinear
from b2inst.structures import Bases, Positives, Targets

K, H, W = 3, 6, 8  # bases of 48×64 pixels, at stride 8


@pytest.fixture
def head() -> DynamicMaskHead:
    return DynamicMaskHead(num_bases=K, channels=4)


@pytest.fixture
def bases() -> Bases:
    return Bases(torch.randn(2, K, H, W, generator=torch.Generator().manual_seed(0)), stride=8)


def random_coefficients(head: DynamicMaskHead, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(count, head.num_coefficients, generator=generator)
    values[:, -3:] = torch.tensor([[20, 36, 64], [60, 4, 128], [28, 28, 64]])[:count]
    return values


def by_hand(maps: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """One instance's logits at the bases' cells; K×h×w bases, all coefficients in order."""
    at = iter(numbers)
    weights = [
        [[next(at) for _ in range(wide_in)] for _ in range(wide_out)]
        for wide_in, wide_out in ((2 + K, 4), (4, 4), (4, 1))
    ]
    biases = [[next(at) for _ in range(wide_out)] for wide_out in (4, 4, 1)]
    x, y, size = at
    result = np.empty(maps.shape[1:])
    for j in range(H):
        for i in range(W):
            values = [(x - (8 * i + 4)) / size, (y - (8 * j + 4)) / size, *maps[:, j, i]]
            for layer, (matrix, bias) in enumerate(zip(weights, biases, strict=True)):
                values = [np.dot(row, values) + b for row, b in zip(matrix, bias, strict=True)]
                if layer < 2:
                    values = [max(v, 0) for v in values]
            result[j, i] = values[0]
    return result


@pytest.mark.parametrize("at_a_time", [3, 2])
def test_every_cell_of_an_instance_written_out(
    head: DynamicMaskHead, bases: Bases, at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("b2inst.ops.frame_masks._CELLS", at_a_time * H * W)
    coefficients = random_coefficients(head, 3)
    boxes = [torch.tensor([[0.0, 0, 30, 40]]), torch.tensor([[8.0, 8, 60, 40], [1, 1, 2, 2]])]
    masks = head.assemble(bases, boxes, coefficients)
    assert masks.probabilities.shape == (3, 2 * H, 2 * W)
    assert masks.boxes.equal(torch.cat(boxes))
    for k, image in enumerate((0, 1, 1)):
        logits = by_hand(bases.maps[image].double().numpy(), coefficients[k].double().numpy())
        grown = aligned_bilinear(torch.from_numpy(logits)[None, None], 2)[0, 0].numpy()
        np.testing.assert_allclose(masks.probabilities[k], expit(grown), atol=1e-5)


def test_as_many_coefficients_as_the_published_network_has_and_a_place() -> None:
    head = DynamicMaskHead()
    assert head.num_coefficients == 80 + 64 + 8 + 8 + 8 + 1 + 3
    assert DynamicMaskHead(num_bases=9).num_coefficients == head.num_coefficients + 8


def test_masks_lie_where_the_cells_of_the_bases_are(head: DynamicMaskHead) -> None:
    """A network that passes on the first base. Enlarging moves the masks by 2 pixels, as published:
    cell (j, i), whose centre is pixel (8j + 4, 8i + 4), becomes pixel (8j + 6, 8i + 6)."""
    coefficients = torch.zeros(1, head.num_coefficients)
    coefficients[0, 2] = coefficients[0, 20] = coefficients[0, 36] = 1  # the first in each layer
    coefficients[0, -1] = 64
    maps = torch.zeros(1, K, H, W)
    maps[0, 0, 2, 3] = 4
    coefficients[0, -4] = -2  # the last bias: above it is inside
    masks = head.assemble(Bases(maps, 8), [torch.zeros(1, 4)], coefficients)
    (found,) = masks.paste(torch.zeros(1, 4), (48, 64), (48, 64))
    rows, columns = found.nonzero().unbind(1)
    assert (rows.min() + rows.max(), columns.min() + columns.max()) == (2 * 22, 2 * 30)
    assert found[22, 30]


def test_no_instances(head: DynamicMaskHead, bases: Bases) -> None:
    nothing = torch.zeros(0, 4)
    masks = head.assemble(bases, [nothing, nothing], torch.zeros(0, head.num_coefficients))
    assert masks.probabilities.shape == (0, 2 * H, 2 * W)
    assert masks.paste(nothing, (48, 60), (48, 64)).shape == (0, 48, 60)


def positives(head: DynamicMaskHead, image_index: list[int], target_index: list[int]) -> Positives:
    count = len(image_index)
    return Positives(
        image_index=torch.tensor(image_index, dtype=torch.int64),
        target_index=torch.tensor(target_index, dtype=torch.int64),
        coefficients=random_coefficients(head, count),
        weights=torch.full((count,), 0.3),
        weight_sum=7.0,
    )


def test_loss_is_the_plain_mean_of_dice_on_picked_pixels(
    head: DynamicMaskHead, bases: Bases, make_targets: Callable[..., Targets]
) -> None:
    """Pixels 2, 6, 10, … of masks in images that are smaller than the padded batch."""
    targets = [
        make_targets((40, 64), [(0, 0, 20, 30), (10, 10, 60, 40)]),
        make_targets((48, 50), [(5, 5, 45, 45)]),
    ]
    chosen = positives(head, [0, 1, 0], [1, 2, 0])
    expected = []
    for k, (image, row) in enumerate(((0, 1), (1, 0), (0, 0))):
        mask = targets[image].masks[row].numpy()
        truth = np.zeros((2 * H, 2 * W))
        for j in range(2 * H):
            for i in range(2 * W):
                if 4 * j + 2 < mask.shape[0] and 4 * i + 2 < mask.shape[1]:
                    truth[j, i] = mask[4 * j + 2, 4 * i + 2]
        logits = by_hand(
            bases.maps[image].double().numpy(), chosen.coefficients[k].double().numpy()
        )
        soft = expit(aligned_bilinear(torch.from_numpy(logits)[None, None], 2)[0, 0].numpy())
        expected.append(1 - 2 * (soft * truth).sum() / ((soft**2).sum() + (truth**2).sum() + 1e-5))
    loss = head.loss(bases, chosen, targets)["loss_mask"]
    assert loss.item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_only_sampled_positives_are_trained(
    bases: Bases, make_targets: Callable[..., Targets]
) -> None:
    last = DynamicMaskHead(num_bases=K, channels=4, sample=lambda p: p[-1:])
    targets = [make_targets((48, 64), [(0, 0, 20, 30)]), make_targets((48, 64), [(0, 8, 60, 40)])]
    both = positives(last, [0, 1], [0, 1])
    every = DynamicMaskHead(num_bases=K, channels=4)
    loss = last.loss(bases, both, targets)["loss_mask"]
    torch.testing.assert_close(loss, every.loss(bases, both[1:], targets)["loss_mask"])
    assert loss != every.loss(bases, both, targets)["loss_mask"]


def test_loss_without_positives_is_zero_and_differentiable(
    head: DynamicMaskHead, bases: Bases, make_targets: Callable[..., Targets]
) -> None:
    maps = bases.maps.requires_grad_()
    empty = [make_targets((48, 64), []), make_targets((48, 64), [])]
    loss = head.loss(Bases(maps, 8), positives(head, [], []), empty)["loss_mask"]
    assert loss.item() == 0
    loss.backward()
    assert maps.grad is not None
    assert not maps.grad.any()


class AddGuide(torch.nn.Module):
    def forward(self, logits: torch.Tensor, boundary: torch.Tensor | None) -> torch.Tensor:
        assert boundary is not None
        return logits + 10 * boundary


def test_logits_are_refined_by_the_boundary_of_their_image(bases: Bases) -> None:
    boundary = torch.randn(2, 1, H, W, generator=torch.Generator().manual_seed(3))
    guided = Bases(bases.maps, bases.stride, boundary)
    head = DynamicMaskHead(num_bases=K, channels=4, refinement=AddGuide())
    coefficients, image = random_coefficients(head, 3), torch.tensor([0, 1, 1])
    found = head.logits(guided, image, coefficients)
    for i, b in enumerate(image.tolist()):
        expected = by_hand(bases.maps[b].numpy(), coefficients[i].numpy())
        np.testing.assert_allclose(found[i], expected + 10 * boundary[b, 0].numpy(), atol=1e-4)
