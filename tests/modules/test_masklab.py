from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import roi_align

from b2inst.modules.layers import RoIPooler
from b2inst.modules.masklab import MaskLabHead, assemble_directions, sectors_of
from b2inst.structures import Features, RoISamples, Targets

MakeTargets = Callable[..., Targets]


def head() -> MaskLabHead:
    torch.manual_seed(0)
    pooler = RoIPooler(strides=(4, 8), size=7, samples=2)
    return MaskLabHead(in_channels=6, num_classes=3, pooler=pooler, channels=8).eval()


@pytest.fixture
def features() -> Features:
    return {4: torch.randn(2, 6, 16, 24, generator=torch.Generator().manual_seed(1))}


#: Of two images of 64×96 pixels; some of one pixel, at the border and beyond it.
BOXES = [
    torch.tensor([[3.0, 5.0, 60.0, 50.0], [95.0, 63.0, 96.0, 64.0]]),
    torch.tensor([[-20.0, -8.0, 120.0, 80.0]]),
]
LABELS = torch.tensor([2, 0, 1])


def slow_sector(x: float, y: float) -> int:
    """Which of eight: the first is to the right, the third down."""
    degrees = math.degrees(math.atan2(y, x)) % 360
    return next((k for k in range(8) if abs(degrees - 45 * k) < 22.5), 0)


def test_sectors_are_around_the_eight_directions() -> None:
    directions = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    x, y = torch.tensor(directions, dtype=torch.float32).T
    assert sectors_of(x, y, 8).tolist() == list(range(8))
    x, y = torch.randn(2, 500)
    expected = [slow_sector(*point) for point in zip(x.tolist(), y.tolist(), strict=True)]
    assert sectors_of(x, y, 8).tolist() == expected
    assert sectors_of(x, y, 4).max() == 3


def test_cells_are_read_from_the_maps_of_their_direction() -> None:
    boxes = torch.cat(BOXES)
    maps = torch.randn(3, 32, 14, 14)
    found = assemble_directions(maps, boxes, 8)
    assert found.shape == (3, 4, 14, 14)
    for n, ring, row, column in product(range(3), range(4), range(14), range(14)):
        x1, y1, x2, y2 = boxes[n].tolist()
        x, y = x1 + (column + 0.5) / 14 * (x2 - x1), y1 + (row + 0.5) / 14 * (y2 - y1)
        sector = slow_sector((x1 + x2) / 2 - x, (y1 + y2) / 2 - y)
        assert found[n, ring, row, column] == maps[n, ring * 8 + sector, row, column]


@torch.no_grad()
def test_masks_are_made_from_the_logits_in_the_box(features: Features) -> None:
    """Box by box: the class's logits and the assembled directions, then the finest features."""
    model = head()
    outputs = model(features, BOXES)
    maps = model.logits(model.convs(features[4]))
    coarse, refined = model.masks(outputs, LABELS)
    flat = [(i, box) for i, own in enumerate(BOXES) for box in own]
    for n, (image, box) in enumerate(flat):
        roi = torch.cat([torch.tensor([image]), box])[None]
        own, fine = (
            roi_align(level, roi, 14, 1 / 4, 2, aligned=True)
            for level in (maps, model.fine(features[4]))
        )
        directions = assemble_directions(own[:, 4:], box[None], 8)
        semantic = own[:, [LABELS[n] + 1]]
        kernel = model.coarse.weight[0, :, 0, 0]
        expected = model.coarse.bias + kernel[0] * semantic[0, 0]
        for ring in range(4):
            expected = expected + kernel[1 + ring] * directions[0, ring]
        torch.testing.assert_close(coarse[n, 0], expected, atol=1e-4, rtol=1e-4)
        expected = model.refine(torch.cat([coarse[n, None], fine], 1))[0, 0]
        torch.testing.assert_close(refined[n, 0], expected, atol=1e-4, rtol=1e-4)
    assert outputs.of_class(LABELS).equal(refined[:, 0])


def test_pixels_belong_to_the_smallest_object_and_point_to_its_centre(
    make_targets: MakeTargets,
) -> None:
    model = head()
    boxes = [(0, 0, 40, 30), (10, 10, 30, 29), (62, 46, 63, 47)]
    target = make_targets((50, 66), boxes, [2, 0, 1])
    classes, directions = model._pixel_targets(target)
    assert classes.shape == directions.shape == (12, 16)
    for row, column in product(range(12), range(16)):
        x, y = column * 4 + 2.5, row * 4 + 2.5
        on = [
            k for k in (2, 1, 0) if boxes[k][0] < x < boxes[k][2] and boxes[k][1] < y < boxes[k][3]
        ]
        if not on:
            assert (classes[row, column], directions[row, column]) == (0, -1)
            continue
        x1, y1, x2, y2 = boxes[on[0]]
        dx, dy = (x1 + x2) / 2 - x, (y1 + y2) / 2 - y
        far = math.hypot(dx, dy) / math.hypot((x2 - x1) / 2, (y2 - y1) / 2)
        assert classes[row, column] == (3, 1, 2)[on[0]]
        assert directions[row, column] == int(far * 4) * 8 + slow_sector(dx, dy)
    assert set(classes.unique().tolist()) == {0, 1, 2, 3}
    classes, directions = model._pixel_targets(make_targets((50, 66), []))
    assert classes.eq(0).all()
    assert directions.eq(-1).all()


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


def test_losses_are_means_over_cells(features: Features, make_targets: MakeTargets) -> None:
    """Of classes over all with padding, of directions over those of objects."""
    model = head()
    samples, targets = training(make_targets)
    outputs = model(features, BOXES)
    losses = model.loss(outputs, samples, targets)
    truths = []
    for target, own in zip(targets, samples, strict=True):
        for box, k in zip(own.boxes, own.target_index.tolist(), strict=True):
            roi = torch.cat([torch.zeros(1), box])[None]
            pooled = roi_align(target.masks[None, [k]].float(), roi, 14, 1.0, 0, aligned=True)
            truths.append((pooled[0] >= 0.5).float())
    for name, masks in zip(("coarse_mask", "mask"), model.masks(outputs, LABELS), strict=True):
        expected = F.binary_cross_entropy(masks.sigmoid(), torch.stack(truths))
        torch.testing.assert_close(losses[f"loss_{name}"], expected)
    semantic, direction = outputs.maps[:, :4].log_softmax(1), outputs.maps[:, 4:].log_softmax(1)
    classes, directions = 0.0, []
    for i, target in enumerate(targets):
        own = model._pixel_targets(target)
        for row, column in product(range(16), range(24)):
            inside = row < own[0].shape[0] and column < own[0].shape[1]
            label = int(own[0][row, column]) if inside else 0
            classes -= semantic[i, label, row, column].item() / (2 * 16 * 24)
            if label:
                directions.append(-direction[i, own[1][row, column], row, column].item())
    assert losses["loss_semantic"].item() == pytest.approx(classes, rel=1e-4)
    expected = sum(directions) / len(directions)
    assert losses["loss_direction"].item() == pytest.approx(expected, rel=1e-4)


def test_no_boxes_and_four_hundred(features: Features, make_targets: MakeTargets) -> None:
    model, none = head(), [torch.zeros(0, 4)] * 2
    outputs = model(features, none)
    assert outputs.of_class(LABELS[:0]).shape == (0, 14, 14)
    samples = [RoISamples(none[0], LABELS[:0], LABELS[:0])] * 2
    losses = model.loss(outputs, samples, [make_targets((64, 96), [])] * 2)
    assert losses["loss_mask"] == losses["loss_coarse_mask"] == losses["loss_direction"] == 0
    torch.stack(list(losses.values())).sum().backward()
    with torch.no_grad():
        many = model(features, [BOXES[0].repeat(200, 1), none[0]])
        masks = many.of_class(torch.zeros(400, dtype=torch.int64))
    assert masks.shape == (400, 14, 14)
    assert masks.isfinite().all()
    torch.testing.assert_close(masks[0], masks[398], atol=1e-4, rtol=1e-4)
