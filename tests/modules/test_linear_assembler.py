from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from b2inst.modules.linear_assembler import LinearAssembler, crop
from b2inst.modules.refinement import BoundaryDiffusion
from b2inst.structures import Bases, Positives, Targets

K, SIDE, CELLS = 3, 62, 16  # a cell is 3.875 pixels
STRIDE = SIDE / CELLS


@pytest.fixture
def bases() -> Bases:
    generator = torch.Generator().manual_seed(0)
    return Bases(torch.randn(2, K, CELLS, CELLS, generator=generator).relu(), STRIDE)


def by_hand(bases: Bases, image: int, box: list[float], coefficients: torch.Tensor) -> np.ndarray:
    """One mask: yolact_facts.md §7, cell by cell."""
    mask = np.zeros((CELLS, CELLS))
    x1, y1, x2, y2 = (side / SIDE * CELLS for side in box)
    for y in range(CELLS):
        for x in range(CELLS):
            if max(x1 - 1, 0) <= x < min(x2 + 1, CELLS) and max(y1 - 1, 0) <= y < min(
                y2 + 1, CELLS
            ):
                logit = (np.tanh(coefficients.numpy()) * bases.maps[image, :, y, x].numpy()).sum()
                mask[y, x] = expit(logit)
    return mask


@pytest.mark.parametrize("at_a_time", [3, 1])
def test_masks_are_those_of_a_written_out_combination(
    bases: Bases, at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("b2inst.ops.frame_masks._CELLS", at_a_time * CELLS**2)
    boxes = [
        torch.tensor([[8.0, 4, 50, 40], [-5, 20, 11, 80]]),
        torch.tensor([[3.5, 7.25, 30, 61]]),
    ]
    coefficients = torch.randn(3, K, generator=torch.Generator().manual_seed(1))
    masks = LinearAssembler(num_bases=K).assemble(bases, boxes, coefficients)
    assert (masks.stride, masks.origin) == (STRIDE, STRIDE / 2)
    torch.testing.assert_close(masks.boxes, torch.cat(boxes))
    for i, (b, box) in enumerate([(0, boxes[0][0]), (0, boxes[0][1]), (1, boxes[1][0])]):
        expected = by_hand(bases, b, box.tolist(), coefficients[i])
        np.testing.assert_allclose(masks.probabilities[i], expected, atol=1e-6)


coordinates = st.integers(-16, 80).map(lambda quarter: quarter / 4)


@given(st.tuples(coordinates, coordinates, coordinates, coordinates))
def test_crop_pads_by_a_cell_without_rounding(box: tuple[float, ...]) -> None:
    x1, x2 = sorted((box[0], box[2]))
    y1, y2 = sorted((box[1], box[3]))
    got = crop(torch.tensor([box]), (5, 9))[0]
    expected = [[x1 - 1 <= x < x2 + 1 and y1 - 1 <= y < y2 + 1 for x in range(9)] for y in range(5)]
    assert got.tolist() == expected


def test_no_instances(bases: Bases) -> None:
    nothing = torch.zeros(0, 4)
    masks = LinearAssembler(num_bases=K).assemble(bases, [nothing, nothing], torch.zeros(0, K))
    assert masks.probabilities.shape == (0, CELLS, CELLS)


def positives(image: list[int], target: list[int], weight_sum: float) -> Positives:
    generator = torch.Generator().manual_seed(2)
    return Positives(
        image_index=torch.tensor(image, dtype=torch.int64),
        target_index=torch.tensor(target, dtype=torch.int64),
        coefficients=torch.randn(len(image), K, generator=generator),
        weights=torch.full((len(image),), 0.5),
        weight_sum=weight_sum,
    )


def losses_by_hand(bases: Bases, chosen: Positives, targets: list[Targets]) -> list[float]:
    """Of each positive, without the weight: facts §8."""
    found = []
    first = [0, len(targets[0])]
    for image, target, coefficients in zip(
        chosen.image_index.tolist(), chosen.target_index.tolist(), chosen.coefficients, strict=True
    ):
        own = target - first[image]
        box = targets[image].boxes[own].tolist()
        mask = by_hand(bases, image, box, coefficients)
        truth = (
            torch.nn.functional.interpolate(
                targets[image].masks[own][None, None].float(), (CELLS, CELLS), mode="bilinear"
            )[0, 0]
            > 0.5
        ).numpy()
        with np.errstate(divide="ignore"):
            logs = np.where(truth, np.log(mask), np.log1p(-mask)).clip(min=-100)
        area = (box[2] - box[0]) * (box[3] - box[1]) * (CELLS / SIDE) ** 2
        found.append(float(-logs.sum() / area))
    return found


@pytest.fixture
def targets(make_targets: Callable[..., Targets]) -> list[Targets]:
    made = [
        make_targets((SIDE, SIDE), [(4, 8, 40, 30), (20, 20, 50, 60)]),
        make_targets((SIDE, SIDE), [(10, 0, 30, 62)]),
    ]
    made[0].masks[0, 0:60, 50:58] = 1  # part of the object is far outside its box
    return made


def test_loss_is_each_positives_cross_entropy_over_its_boxs_area(
    bases: Bases, targets: list[Targets]
) -> None:
    chosen = positives([0, 0, 0, 1], [1, 0, 1, 2], weight_sum=5)
    expected = 6.125 * sum(losses_by_hand(bases, chosen, targets)) / 5
    loss = LinearAssembler(num_bases=K).loss(bases, chosen, targets)["loss_mask"]
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_padding_of_the_image_is_background(
    bases: Bases, make_targets: Callable[..., Targets]
) -> None:
    chosen = positives([0, 0, 0, 1], [1, 0, 1, 2], weight_sum=5)
    boxes = [(4, 8, 40, 30), (20, 20, 50, 41)], [(10, 0, 30, 40)]

    def loss(height: int, width: int) -> float:
        targets = [make_targets((height, width), own) for own in boxes]
        return LinearAssembler(num_bases=K).loss(bases, chosen, targets)["loss_mask"].item()

    assert loss(41, 50) == pytest.approx(loss(SIDE, SIDE), rel=1e-6)


def test_of_many_some_are_drawn_and_count_for_all(bases: Bases, targets: list[Targets]) -> None:
    chosen = positives([0, 0, 0, 0, 1], [1, 0, 1, 0, 2], weight_sum=5)
    each = losses_by_hand(bases, chosen, targets)
    assembler = LinearAssembler(num_bases=K)
    assembler.max_masks = 2
    torch.manual_seed(0)
    drawn = torch.randperm(4)[:2].tolist()
    torch.manual_seed(0)
    loss = assembler.loss(bases, chosen, targets)["loss_mask"]
    expected = 6.125 * (2 * sum(each[i] for i in drawn) + each[4]) / 5
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_loss_without_positives_is_zero_and_differentiable(
    bases: Bases, make_targets: Callable[..., Targets]
) -> None:
    maps = bases.maps.requires_grad_()
    empty = [make_targets((SIDE, SIDE), [])] * 2
    loss = LinearAssembler(num_bases=K).loss(Bases(maps, STRIDE), positives([], [], 1), empty)
    assert loss["loss_mask"].item() == 0
    loss["loss_mask"].backward()
    assert maps.grad is not None
    assert not maps.grad.any()


class AddGuide(torch.nn.Module):
    def forward(self, logits: torch.Tensor, boundary: torch.Tensor | None) -> torch.Tensor:
        assert boundary is not None
        return logits + 10 * boundary


def test_mixed_precision_does_not_saturate_the_loss(
    make_targets: Callable[..., Targets],
) -> None:
    """A wrong cell of logit 8 costs 8; a probability in bfloat16 would be 1, which costs 100."""
    maps = torch.full((1, K, CELLS, CELLS), 8.0 / K).bfloat16()
    target = make_targets((SIDE, SIDE), [(0, 0, SIDE, SIDE)])
    target.masks.zero_()
    chosen = positives([0], [0], weight_sum=1.0)
    chosen.coefficients = torch.full((1, K), 20.0, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        loss = LinearAssembler(num_bases=K).loss(Bases(maps, STRIDE), chosen, [target])["loss_mask"]
    assert loss.item() == pytest.approx(6.125 * 8, rel=0.05)  # the mean over the box


def test_refinement_has_a_gradient_without_positives(bases: Bases) -> None:
    """On one of several devices, whose gradients are averaged, there may be no object."""
    assembler = LinearAssembler(num_bases=K, refinement=BoundaryDiffusion())
    assembler.loss(bases, positives([], [], weight_sum=1.0), [])["loss_mask"].backward()
    assert list(assembler.parameters())
    assert all(p.grad is not None for p in assembler.parameters())


def test_masks_are_refined_by_the_boundary_before_they_are_cropped(bases: Bases) -> None:
    """As if the boundary were one more basis, whose coefficient is 10 for every instance."""
    boundary = torch.randn(2, 1, CELLS, CELLS, generator=torch.Generator().manual_seed(3))
    guided = Bases(bases.maps, STRIDE, boundary)
    assembler = LinearAssembler(num_bases=K, refinement=AddGuide())
    boxes = [torch.tensor([[8.0, 4, 50, 40]]), torch.tensor([[3.5, 7.25, 30, 61]])]
    coefficients = torch.randn(2, K, generator=torch.Generator().manual_seed(1))
    masks = assembler.assemble(guided, boxes, coefficients)
    for b in range(2):
        combined = np.tensordot(np.tanh(coefficients[b]), bases.maps[b], axes=1)
        inside = by_hand(bases, b, boxes[b][0].tolist(), coefficients[b]) > 0
        expected = np.where(inside, expit(combined + 10 * boundary[b, 0].numpy()), 0)
        np.testing.assert_allclose(masks.probabilities[b], expected, atol=1e-5)
