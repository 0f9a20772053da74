from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from b2inst.modules import point_rend
from b2inst.modules.layers import RoIPooler
from b2inst.modules.point_rend import PointRendHead
from b2inst.structures import Features, RoISamples, Targets

grid_sample = partial(F.grid_sample, align_corners=False)
MakeTargets = Callable[..., Targets]
POOLER = RoIPooler(strides=(4, 8), size=14)


def head(**options: Any) -> PointRendHead:
    torch.manual_seed(0)
    small: dict[str, Any] = {"channels": 8, "hidden": 16, "train_points": 20, "test_points": 196}
    made = PointRendHead(
        in_channels=6, num_classes=3, pooler=POOLER, **small | {"roi_size": 56} | options
    )
    for layer in (made.coarse[-1], made.point_head.predictor):
        torch.nn.init.normal_(layer.weight)  # type: ignore[arg-type]
    return made.eval()


@pytest.fixture
def features() -> Features:
    return {4: torch.randn(2, 6, 16, 24, generator=torch.Generator().manual_seed(1))}


#: Of two images of 64×96 pixels; some of one pixel, at the border and beyond it.
BOXES = [
    torch.tensor([[3.0, 5.0, 60.0, 50.0], [95.0, 63.0, 96.0, 64.0]]),
    torch.tensor([[-20.0, -8.0, 120.0, 80.0]]),
]
LABELS = torch.tensor([2, 0, 1])


def slow_features(features: Features, points: Tensor) -> Tensor:
    """Features at points of the boxes above: one after the other, as a map of one cell."""
    rows = []
    boxes = [(i, box) for i, own in enumerate(BOXES) for box in own]
    for (i, (x1, y1, x2, y2)), own in zip(boxes, points, strict=True):
        for x, y in own:
            at = torch.stack([(x1 + x * (x2 - x1)) / 96, (y1 + y * (y2 - y1)) / 64])
            rows.append(grid_sample(features[4][i, None], at.view(1, 1, 1, 2) * 2 - 1).flatten())
    return torch.stack(rows).view(*points.shape[:2], -1)


def slow_point_logits(model: PointRendHead, fine: Tensor, coarse: Tensor) -> Tensor:
    """The perceptron as convolutions of width 1, of N×C×P and N×K×P to N×K×P."""
    x = fine
    for layer in model.point_head.layers:
        x = F.conv1d(torch.cat([x, coarse], 1), layer.weight[..., None], layer.bias).relu()
    last = model.point_head.predictor
    return F.conv1d(torch.cat([x, coarse], 1), last.weight[..., None], last.bias)


def slow_map_points(maps: Tensor, points: Tensor) -> Tensor:
    """N×K×P of N×K×h×w maps at N×P×2 points."""
    pairs = zip(maps, points, strict=True)
    return torch.stack([grid_sample(m[None], p[None, None] * 2 - 1)[0, :, 0] for m, p in pairs])


@torch.no_grad()
def test_coarse_masks_come_from_a_regular_grid(features: Features) -> None:
    model = head()
    outputs = model(features, BOXES)
    centres = (torch.arange(14) + 0.5) / 14
    grid = torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1).view(1, -1, 2)
    pooled = slow_features(features, grid.expand(3, -1, -1)).mT.reshape(3, 6, 14, 14)
    torch.testing.assert_close(outputs.coarse.pooled, pooled, rtol=1e-4, atol=1e-5)
    reduced = F.conv2d(pooled, model.reduce[0].weight, model.reduce[0].bias, stride=2).relu()
    expected = model.coarse(reduced).view(3, 3, 7, 7)
    torch.testing.assert_close(outputs.coarse.logits, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_rendering_computes_the_least_certain_cells_of_each_resolution_again(
    features: Features,
) -> None:
    """Against masks of all classes, and cells one by one."""
    model = head()
    coarse = torch.randn(3, 3, 7, 7)

    def at(cells: Tensor, size: int) -> Tensor:
        points = torch.stack([cells % size, cells // size], -1).add(0.5).div(size)
        rough = slow_map_points(coarse, points)
        return slow_point_logits(model, slow_features(features, points).mT, rough)

    masks = at(torch.arange(14 * 14).expand(3, -1), 14).view(3, 3, 14, 14)
    for size in (28, 56):
        masks = F.interpolate(masks, scale_factor=2, mode="bilinear", align_corners=False)
        for mask, label, k in zip(masks, LABELS.tolist(), range(3), strict=True):
            cells = mask[label].abs().flatten().argsort()[:196]
            fine = at(cells.expand(3, -1), size)[k]
            for cell, values in zip(cells.tolist(), fine.T, strict=True):
                mask[:, cell // size, cell % size] = values
    expected = torch.stack([mask[label] for mask, label in zip(masks, LABELS, strict=True)])
    outputs = model(features, BOXES)
    outputs.coarse.logits = coarse
    found = outputs.of_class(LABELS)
    assert (found - expected).abs().gt(1e-3).float().mean() < 1e-3  # two cells may change places


@torch.no_grad()
@pytest.mark.parametrize("size", [14, 112])
def test_rendering_ends_at_any_resolution(features: Features, size: int) -> None:
    model = head(roi_size=size)
    assert model(features, BOXES).of_class(LABELS).shape == (3, size, size)


@torch.no_grad()
def test_no_boxes_and_four_hundred(features: Features) -> None:
    model = head()
    none = [torch.zeros(0, 4)] * 2
    assert model(features, none).of_class(LABELS[:0]).shape == (0, 56, 56)
    many = [BOXES[0].repeat(200, 1), BOXES[1][:0]]
    masks = model(features, many).of_class(torch.zeros(400, dtype=torch.int64))
    assert masks.shape == (400, 56, 56)
    assert masks.isfinite().all()
    assert masks[0].allclose(masks[398], atol=1e-4)


def training(make_targets: MakeTargets) -> tuple[list[RoISamples], list[Targets]]:
    samples = [
        RoISamples(BOXES[0], LABELS[:2], torch.tensor([0, 1])),
        RoISamples(BOXES[1], LABELS[2:], torch.tensor([0])),
    ]
    targets = [
        make_targets((64, 96), [(0, 0, 50, 40), (95, 63, 96, 64)], [2, 0]),
        make_targets((60, 90), [(10, 20, 40, 55)], [1]),
    ]
    return samples, targets


def test_training_points_are_the_least_certain_and_some_at_random() -> None:
    model, coarse = head(), torch.randn(2, 7, 7)
    drawn: list[Tensor] = []

    def keep(*size: Any) -> Tensor:
        drawn.append(torch.rand(size[0], size[1], 2))
        return drawn[-1]

    with patch.object(point_rend, "uniform_points", keep):
        points = model._training_points(coarse)
    assert [d.shape for d in drawn] == [(2, 60, 2), (2, 5, 2)]
    assert points[:, 15:].equal(drawn[1])
    for own, mask, candidates in zip(points[:, :15], coarse, drawn[0], strict=True):
        values = grid_sample(mask[None, None], candidates[None, None] * 2 - 1).flatten().abs()
        best = candidates[values.argsort()[:15]]
        assert {tuple(p) for p in own.tolist()} == {tuple(p) for p in best.tolist()}


def test_losses_are_means_over_cells_and_points(
    features: Features, make_targets: MakeTargets
) -> None:
    model = head()
    samples, targets = training(make_targets)
    points = torch.rand(3, 20, 2)
    outputs = model(features, BOXES)
    with patch.object(model, "_training_points", lambda _: points):
        losses = model.loss(outputs, samples, targets)
    rough = slow_map_points(outputs.coarse.logits, points)
    logits = slow_point_logits(model, slow_features(features, points).mT, rough)
    expected = []
    masks = [targets[0].masks[0], targets[0].masks[1], targets[1].masks[0]]
    for box, mask, own, label, at in zip(
        torch.cat(BOXES), masks, logits, LABELS, points, strict=True
    ):
        size = torch.tensor([mask.shape[1], mask.shape[0]])
        place = (box[:2] + at * (box[2:] - box[:2])) / size
        truth = grid_sample(mask[None, None].float(), place[None, None] * 2 - 1).flatten()
        expected.append(F.binary_cross_entropy_with_logits(own[label], truth, reduction="none"))
    torch.testing.assert_close(losses["loss_point"], torch.stack(expected).mean())
    losses["loss_point"].backward()  # reaches the coarse mask that the point head sees
    assert model.coarse[-1].weight.grad.any()  # type: ignore[union-attr]


def test_without_objects_both_losses_are_zero(
    features: Features, make_targets: MakeTargets
) -> None:
    model = head()
    none = RoISamples(torch.zeros(0, 4), LABELS[:0], LABELS[:0])
    outputs = model(features, [none.boxes] * 2)
    losses = model.loss(outputs, [none] * 2, [make_targets((64, 96), [])] * 2)
    assert {name: loss.item() for name, loss in losses.items()} == {
        "loss_mask": 0,
        "loss_point": 0,
    }
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_initial_masks_are_undecided(features: Features) -> None:
    """Published: both predictions are drawn with a deviation of 0.001."""
    torch.manual_seed(0)
    model = PointRendHead(in_channels=6, num_classes=3, pooler=POOLER, roi_size=56)
    for weight in (model.coarse[-1].weight, model.point_head.predictor.weight):
        assert weight.std().item() == pytest.approx(0.001, rel=0.05)  # type: ignore[operator]
    assert all(not p.any() for name, p in model.named_parameters() if name.endswith("bias"))
