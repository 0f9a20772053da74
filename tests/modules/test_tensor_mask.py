from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from dense_masks import swap_align2nat
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_iou, roi_align

from b2inst.modules.tensor_mask import TensorMaskHead, WindowDetector, all_windows, assign
from b2inst.structures import Features, ImageBatch, Targets

MakeTargets = Callable[..., Targets]
SIZES = (3, 4)
#: Of two images of 60×92 pixels; levels are rounded up.
SHAPES = {4: (15, 23), 8: (8, 12), 16: (4, 6)}
BATCH = ImageBatch(torch.zeros(2, 3, 60, 92), [(60, 92), (50, 80)])


@pytest.fixture
def features() -> Features:
    generator = torch.Generator().manual_seed(1)
    return {s: torch.randn(2, 6, *shape, generator=generator) for s, shape in SHAPES.items()}


def lively(module: nn.Module) -> None:
    """Larger weights, for outputs that differ."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)


def detector() -> WindowDetector:
    made = WindowDetector(
        in_channels=6, num_classes=3, sizes=SIZES, class_channels=8, box_channels=5, num_convs=2
    )
    lively(made)
    return made


def mask_head(mask_stride: int = 4) -> TensorMaskHead:
    made = TensorMaskHead(
        in_channels=6, sizes=SIZES, mask_stride=mask_stride, channels=8, num_convs=2
    )
    lively(made)
    return made


def objects(make_targets: MakeTargets) -> list[Targets]:
    """Two images with objects that windows of all sides fit, some at the border."""
    boxes = [(0, 0, 9, 7), (20, 20, 27, 26), (60, 30, 80, 52), (40, 2, 52, 12), (90, 58, 91, 59)]
    first = make_targets((60, 92), boxes, [2, 0, 1, 1, 0])
    first.masks[2, 30:40, 60:70] = 0
    return [first, make_targets((50, 80), [(4, 2, 60, 48), (30, 30, 44, 42)], [1, 2])]


@torch.no_grad()
def test_outputs_are_in_the_order_of_windows(features: Features) -> None:
    model = detector()
    logits, offsets = model(features)
    windows, strides = all_windows(features, SIZES)
    assert logits.shape == (2, len(windows), 3)
    assert offsets.shape == (2, len(windows), 4)
    position = 0
    for stride, (height, width) in SHAPES.items():
        classes = model.class_logits(model.class_tower(features[stride]))
        moves = model.offsets(model.box_tower(features[stride]))
        for y, x, k in product(range(height), range(width), range(2)):
            assert logits[:, position].equal(classes[:, 3 * k : 3 * k + 3, y, x])
            assert offsets[:, position].equal(moves[:, 4 * k : 4 * k + 4, y, x])
            half = stride * SIZES[k] / 2
            expected = [stride * x - half, stride * y - half, stride * x + half, stride * y + half]
            assert windows[position].tolist() == expected
            position += 1
    assert position == len(strides)


def test_few_windows_are_likely_at_first(features: Features) -> None:
    fresh = WindowDetector(in_channels=6, num_classes=3, sizes=SIZES)
    logits, _ = fresh(features)
    torch.testing.assert_close(logits.sigmoid().mean().item(), 0.01, rtol=0.01, atol=0.0)


def slow_offsets(box: list[float], window: list[float]) -> list[float]:
    """From a window to a box, in sides of the window and logarithms, times 1.5 and 0.75."""
    side = window[2] - window[0]
    moves = [(box[i] + box[i + 2] - window[i] - window[i + 2]) / 2 / side * 1.5 for i in (0, 1)]
    return moves + [math.log((box[i + 2] - box[i]) / side) * 0.75 for i in (0, 1)]


def test_losses_are_sums_over_windows_by_positive_ones(
    features: Features, make_targets: MakeTargets
) -> None:
    model, targets = detector(), objects(make_targets)
    losses, samples = model.loss(features, BATCH, targets)
    logits, offsets = model(features)
    windows, strides = all_windows(features, SIZES)
    truth, boxes, count = torch.zeros_like(logits), 0.0, 0
    for i, (target, own) in enumerate(zip(targets, samples, strict=True)):
        positive, index = assign(target.boxes, windows, strides)
        assert own.boxes.equal(windows[positive])
        assert own.labels.equal(target.labels[index])
        assert own.target_index.equal(index)
        assert set(index.tolist()) == set(range(len(target)))
        for position, k in zip(positive.tolist(), index.tolist(), strict=True):
            truth[i, position, target.labels[k]] = 1
            moves = slow_offsets(target.boxes[k].tolist(), windows[position].tolist())
            boxes += (torch.tensor(moves) - offsets[i, position]).abs().sum().item()
            count += 1
    # FL*: the cross-entropy of three times the logits by three, 0.3 of it for positive ones.
    probability, weight = (3 * logits.double()).sigmoid(), torch.where(truth > 0, 0.3, 0.7).double()
    classes = F.binary_cross_entropy(probability, truth.double(), weight, reduction="sum") / 3
    assert set(losses) == {"loss_class", "loss_box"}
    torch.testing.assert_close(losses["loss_class"], (classes / count).float())
    assert losses["loss_box"].item() == pytest.approx(boxes / count, rel=1e-4)


def slow_detect(logits: Tensor, offsets: Tensor, windows: Tensor, threshold: float) -> list[tuple]:
    """Scores, classes, windows and boxes, best first; not above half of a better one's."""
    found = []
    probability = logits.sigmoid()
    for position, label in (probability > threshold).nonzero().tolist():
        x1, y1, x2, _ = windows[position].tolist()
        dx, dy, dw, dh = offsets[position].tolist()
        side = x2 - x1
        x, y = x1 + side / 2 + dx / 1.5 * side, y1 + side / 2 + dy / 1.5 * side
        width, height = side * math.exp(dw / 0.75), side * math.exp(dh / 0.75)
        box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        found.append((probability[position, label].item(), label, position, box))
    kept: list[tuple] = []
    for candidate in sorted(found, reverse=True):
        better = torch.tensor([k[3] for k in kept if k[1] == candidate[1]]).view(-1, 4)
        if not (box_iou(torch.tensor([candidate[3]]), better) > 0.5).any():
            kept.append(candidate)
    return kept


@torch.no_grad()
def test_detections_are_windows_without_duplicates(features: Features) -> None:
    model = detector()
    for layer in (model.class_logits, model.offsets):
        nn.init.normal_(layer.weight, std=0.02)
    windows, _ = all_windows(features, SIZES)
    logits, offsets = model(features)
    model.score_threshold = logits.sigmoid().flatten().topk(600).values[-1].item()
    numbers = []
    for i, found in enumerate(model.detect(features, BATCH)):
        expected = slow_detect(logits[i], offsets[i], windows, model.score_threshold)
        scores, labels, positions, boxes = zip(*expected[:100], strict=True)
        torch.testing.assert_close(found.scores, torch.tensor(scores))
        assert found.labels.tolist() == list(labels)
        assert found.coefficients.equal(windows[list(positions)])
        torch.testing.assert_close(found.boxes, torch.tensor(boxes), atol=1e-3, rtol=1e-4)
        numbers.append((len(found), len(expected)))
    assert any(most > least == 100 for least, most in numbers)


@torch.no_grad()
def test_the_limits_of_candidates_and_detections(features: Features) -> None:
    """As many candidates for each of three levels, whichever level they are on."""
    model = detector()
    model.score_threshold = 0.0
    logits, _ = model(features)
    seen: list[Tensor] = []

    def noted(boxes: Tensor, scores: Tensor, *rest: object) -> Tensor:
        seen.append(scores)
        return batched_nms(boxes, scores, *rest)

    for per_level, most, candidates in ((1000, 100, 1), (7, 2, 60), (50, 3, 150), (7, 1, 30)):
        model.pre_nms, model.max_detections = per_level, most
        with patch("b2inst.modules.tensor_mask.batched_nms", noted):
            found = model.detect(features, BATCH)
        for own, given, scores in zip(found, seen[-2:], logits.sigmoid(), strict=True):
            count = scores.numel() if per_level == 1000 else candidates
            expected = scores.flatten().sort(descending=True).values[:count]
            torch.testing.assert_close(given.sort(descending=True).values, expected)
            assert len(own) <= most
            assert own.scores[0] == scores.max()


@torch.no_grad()
def test_nothing_is_likely_and_four_hundred_detections(features: Features) -> None:
    model, head = detector(), mask_head()
    model.score_threshold = 1.0
    none = model.detect(features, BATCH)
    assert [found.coefficients.shape for found in none] == [(0, 4), (0, 4)]
    groups = head(features, [found.coefficients for found in none])
    assert sum(len(rows) for rows, _ in groups) == 0
    model.score_threshold, model.nms_iou, model.max_detections = 0.0, 1.0, 400
    many = model.detect(features, BATCH)
    assert [len(found) for found in many] == [400, 400]
    groups = head(features, [found.coefficients for found in many])
    assert torch.cat([rows for rows, _ in groups]).sort().values.equal(torch.arange(800))
    assert all(logits.isfinite().all() for _, logits in groups)


def slow_masks(head: TensorMaskHead, features: Features) -> dict[tuple[int, ...], Tensor]:
    """Masks of all windows by image, centre and side."""
    masks = {}
    level = {stride: head.tower(maps) for stride, maps in features.items()}
    factor = 4 // head.mask_stride
    finest = F.interpolate(level[4], scale_factor=factor, mode="bilinear")
    for stride in features:
        factor = stride // head.mask_stride
        maps = F.interpolate(level[stride], scale_factor=factor, mode="bilinear")
        maps = head.fuse(finest + maps[:, :, : finest.shape[2], : finest.shape[3]])
        maps = F.pad(maps, (0, 1, 0, 1), mode="replicate")
        for size, linear in zip(SIZES, head.aligned, strict=True):
            aligned = F.conv2d(maps, linear.weight[:, :, None, None], linear.bias)
            natural = swap_align2nat(aligned.unflatten(1, (size, size)), factor)
            for image, row, column in product(range(2), *map(range, SHAPES[stride])):
                key = (image, stride * column, stride * row, stride * size)
                masks[key] = natural[image, :, :, row, column]
    return masks


@torch.no_grad()
@pytest.mark.parametrize("mask_stride", [4, 2])
def test_masks_are_those_of_the_dense_form(mask_stride: int, features: Features) -> None:
    head = mask_head(mask_stride)
    windows, _ = all_windows(features, SIZES)
    mixed = windows[torch.randperm(len(windows), generator=torch.Generator().manual_seed(2))]
    given = [mixed, torch.cat([mixed[:40], mixed[:3]])]
    expected, rows_seen = slow_masks(head, features), []
    flat = [(image, window.tolist()) for image, own in enumerate(given) for window in own]
    for rows, logits in head(features, given):
        assert len(rows) == len(logits)
        for row, found in zip(rows.tolist(), logits, strict=True):
            image, (x1, y1, x2, y2) = flat[row]
            assert found.shape == ((x2 - x1) / mask_stride,) * 2
            mask = expected[image, int(x1 + x2) // 2, int(y1 + y2) // 2, int(x2 - x1)]
            torch.testing.assert_close(found, mask, atol=1e-4, rtol=1e-4)
            rows_seen.append(row)
    assert sorted(rows_seen) == list(range(len(flat)))


@torch.no_grad()
def test_windows_of_one_level_and_one_image(features: Features) -> None:
    """Others are not computed, but for the finest level."""
    head = mask_head()
    windows, strides = all_windows(features, SIZES)
    own = windows[strides == 8][5:20]
    expected = slow_masks(head, features)
    groups = head(features, [own[:0], own])
    assert sum(len(rows) for rows, _ in groups) == 15
    assert all(len(rows) == 0 or logits.shape[1] in (6, 8) for rows, logits in groups)
    for rows, logits in groups:
        for row, found in zip(rows.tolist(), logits, strict=True):
            x1, y1, x2, y2 = own[row].tolist()
            mask = expected[1, int(x1 + x2) // 2, int(y1 + y2) // 2, int(x2 - x1)]
            torch.testing.assert_close(found, mask, atol=1e-4, rtol=1e-4)


def test_the_mask_loss_is_a_mean_over_windows(
    features: Features, make_targets: MakeTargets
) -> None:
    """Of two times the mean over each one's cells, those of objects times 1.5."""
    model, head, targets = detector(), mask_head(), objects(make_targets)
    _, samples = model.loss(features, BATCH, targets)
    groups = head(features, [own.boxes for own in samples])
    losses = head.loss(groups, samples, targets)
    assert set(losses) == {"loss_mask"}
    logits = {row: one for rows, own in groups for row, one in zip(rows.tolist(), own, strict=True)}
    assert {one.shape[-1] for one in logits.values()} == {3, 4, 6, 8, 12, 16}
    total, row = 0.0, 0
    for target, own in zip(targets, samples, strict=True):
        for box, k in zip(own.boxes, own.target_index.tolist(), strict=True):
            found, roi = logits[row].sigmoid(), torch.cat([torch.zeros(1), box])[None]
            pooled = roi_align(target.masks[None, [k]].float(), roi, len(found), aligned=True)
            truth = (pooled[0, 0] >= 0.5).float()
            weight = 1 + truth / 2
            total += F.binary_cross_entropy(found, truth, weight).item()
            row += 1
    assert losses["loss_mask"].item() == pytest.approx(2 * total / row, rel=1e-4)


def test_gradients_reach_all_weights(features: Features, make_targets: MakeTargets) -> None:
    model, head, targets = detector(), mask_head(), objects(make_targets)
    inputs = {stride: maps.requires_grad_() for stride, maps in features.items()}
    losses, samples = model.loss(inputs, BATCH, targets)
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    gradients = [maps.grad.clone() for maps in inputs.values() if maps.grad is not None]
    groups = head(inputs, [own.boxes for own in samples])
    head.loss(groups, samples, targets)["loss_mask"].backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())
    for maps, before in zip(inputs.values(), gradients, strict=True):
        assert before.any()
        assert not maps.grad.equal(before)


@pytest.mark.parametrize("count", [0, 1])
def test_images_without_objects(features: Features, make_targets: MakeTargets, count: int) -> None:
    """All weights have a gradient, as distributed training needs."""
    model, head = detector(), mask_head()
    targets = [make_targets((60, 92), []), make_targets((50, 80), [(8, 8, 20, 18)][:count])]
    losses, samples = model.loss(features, BATCH, targets)
    assert len(samples[0]) == 0
    assert bool(len(samples[1])) == bool(count)
    losses |= head.loss(head(features, [own.boxes for own in samples]), samples, targets)
    assert losses["loss_class"] > 0
    assert bool(losses["loss_box"]) == bool(losses["loss_mask"]) == bool(count)
    torch.stack(list(losses.values())).sum().backward()
    for part in (model, head):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())


def test_initial_weights_and_norms() -> None:
    head = TensorMaskHead(
        in_channels=64, sizes=SIZES, channels=64, norm=lambda width: nn.GroupNorm(8, width)
    )
    for linear in head.aligned:
        assert linear.weight.std().item() == pytest.approx(0.01, rel=0.2)
        assert not linear.bias.any()
    assert sum(isinstance(module, nn.GroupNorm) for module in head.modules()) == 5
    assert not any(isinstance(module, nn.GroupNorm) for module in mask_head().modules())
