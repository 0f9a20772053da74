from __future__ import annotations

import math
from collections.abc import Callable
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import box_iou, roi_align

from b2inst.modules import mask_heads
from b2inst.modules.center_mask import (
    CenterMaskIoUHead,
    FCOSDetector,
    SpatialAttention,
    SpatialAttentionMaskHead,
    adaptive_levels,
    boxes_on_objects,
)
from b2inst.modules.layers import RoIPooler
from b2inst.structures import Features, ImageBatch, RoIOutputs, RoISamples, Targets

MakeTargets = Callable[..., Targets]
STRIDES = (8, 16, 32)


@pytest.fixture
def features() -> Features:
    generator = torch.Generator().manual_seed(0)
    return {s: torch.randn(2, 8, 128 // s, 192 // s, generator=generator) for s in STRIDES}


def slow_level(box: list[float], height: int, width: int) -> int:
    """CenterMask Eq. 2 with k_max 5: which of P3 to P5."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    return min(5, max(3, math.ceil(5 - math.log2(height * width / area)))) if area > 0 else 3


def test_a_boxs_level_goes_by_its_share_of_the_image() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(200, 2, 2, generator=generator).sort(1).values
    boxes = [
        (corners * torch.tensor([192, 128])).flatten(1),
        torch.tensor([[-50.0, -50, 200, 200], [4, 4, 5, 5], [7, 7, 7, 9], [0, 0, 60, 48]]),
    ]
    sizes = [(128, 192), (96, 60)]
    expected = [
        slow_level(box, *size) - 3
        for own, size in zip(boxes, sizes, strict=True)
        for box in own.tolist()
    ]
    assert set(expected) == {0, 1, 2}
    assert adaptive_levels(boxes, sizes, STRIDES).tolist() == expected
    assert adaptive_levels([torch.zeros(0, 4)] * 2, sizes, STRIDES).shape == (0,)


def test_shares_of_a_half_and_a_quarter_are_on_the_finer_side() -> None:
    boxes = torch.tensor([[0.0, 0, 64, 32], [0, 0, 64, 32.1], [0, 0, 32, 32], [0, 0, 32.1, 32]])
    assert adaptive_levels([boxes], [(64, 64)], STRIDES).tolist() == [1, 2, 0, 1]


@torch.no_grad()
def test_attention_weights_each_cell_by_mean_and_maximum_around_it() -> None:
    torch.manual_seed(0)
    attention, maps = SpatialAttention(), torch.randn(2, 5, 4, 6)
    kernel = attention.conv.weight[0]
    found = attention(maps)
    for n, row, column in ((n, r, c) for n in range(2) for r in range(4) for c in range(6)):
        total = 0.0
        for dy, dx in ((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
            y, x = row + dy, column + dx
            if 0 <= y < 4 and 0 <= x < 6:
                cell = maps[n, :, y, x]
                total += float(cell.mean() * kernel[0, dy + 1, dx + 1])
                total += float(cell.max() * kernel[1, dy + 1, dx + 1])
        expected = maps[n, :, row, column] / (1 + math.exp(-total))
        torch.testing.assert_close(found[n, :, row, column], expected)


def mask_head() -> SpatialAttentionMaskHead:
    torch.manual_seed(0)
    pooler = RoIPooler(strides=STRIDES, size=14, samples=0)
    return SpatialAttentionMaskHead(in_channels=8, num_classes=3, pooler=pooler, channels=8)


@torch.no_grad()
def test_masks_are_pooled_one_by_one_and_attended(features: Features) -> None:
    head = mask_head()
    boxes = [
        torch.tensor([[-9.0, -9, 190, 130], [10, 10, 11, 11]]),
        torch.tensor([[20.0, 5, 120, 95]]),
    ]
    outputs = head(features, boxes, [(128, 192), (100, 150)])
    assert outputs.logits.shape == (3, 3, 28, 28)
    sizes = [(128, 192), (128, 192), (100, 150)]
    for k, (image, box, size) in enumerate(zip([0, 0, 1], torch.cat(boxes), sizes, strict=True)):
        stride = 2 ** slow_level(box.tolist(), *size)
        roi = torch.cat([torch.tensor([image]), box])[None]
        pooled = roi_align(features[stride], roi, 14, 1 / stride, 0, aligned=True)
        torch.testing.assert_close(outputs.pooled[k, None], pooled)
        logits = head.predictor(head.attention(head.convs(pooled)))
        torch.testing.assert_close(outputs.logits[k, None], logits)


def test_no_boxes_and_four_hundred(features: Features, make_targets: MakeTargets) -> None:
    head, sizes = mask_head(), [(128, 192)] * 2
    none = [torch.zeros(0, 4)] * 2
    outputs = head(features, none, sizes)
    assert outputs.logits.shape == (0, 3, 28, 28)
    samples = [RoISamples(none[0], torch.zeros(0).long(), torch.zeros(0).long())] * 2
    head.loss(outputs, samples, [make_targets((128, 192), [])] * 2)["loss_mask"].backward()
    many = [torch.tensor([[0.0, 0, 9, 9]]).repeat(400, 1), none[0]]
    assert head(features, many, sizes).logits.isfinite().all()


def test_boxes_to_train_are_detections_on_objects_and_the_objects(
    make_targets: MakeTargets,
) -> None:
    target = make_targets((64, 64), [(0, 0, 20, 20), (30, 30, 60, 60), (63, 63, 64, 64)], [2, 1, 0])
    found = torch.tensor([[30.0, 30, 58, 60], [0, 0, 20, 9], [2, 0, 20, 20], [40, 0, 60, 20]])
    samples = boxes_on_objects(found, target, 128)
    assert samples.boxes.equal(torch.cat([found[[0, 2]], target.boxes]))
    assert samples.target_index.tolist() == [1, 0, 0, 1, 2]
    assert samples.labels.tolist() == [1, 2, 2, 1, 0]
    few = boxes_on_objects(found, target, 3)
    assert len(few) == 3
    assert (box_iou(few.boxes, target.boxes)[range(3), few.target_index] >= 0.5).all()
    assert len(boxes_on_objects(found, make_targets((64, 64), []), 128)) == 0
    assert len(boxes_on_objects(found[:0], target, 128)) == 3


def detector() -> FCOSDetector:
    torch.manual_seed(0)
    made = FCOSDetector(in_channels=8, num_classes=3, strides=STRIDES, num_convs=1)
    made.max_detections, made.train_detections = 5, 9
    nn.init.constant_(made.head.distances.bias, 2.0)  # type: ignore[arg-type]
    nn.init.normal_(made.head.class_logits.weight, std=0.3)
    return made


def test_candidates_have_the_class_probability_and_rank_by_centerness_too(
    features: Features,
) -> None:
    model = detector()
    model.score_threshold = 0.02
    model.max_detections = 1000
    outputs = model.head(features)
    found = model.detect(features, ImageBatch(torch.zeros(2, 3, 128, 192), [(128, 192)] * 2))
    probability = outputs.class_logits.sigmoid()
    product = probability * outputs.centerness_logits.sigmoid()[..., None]
    for own, above, scores in zip(found, probability > 0.02, product.sqrt(), strict=True):
        allowed = scores[above].sort().values
        place = torch.searchsorted(allowed, own.scores).clamp(max=len(allowed) - 1)
        torch.testing.assert_close(allowed[place], own.scores)
        assert own.scores.min() ** 2 < 0.02  # candidates by the product would have been fewer
        assert own.coefficients.shape == (len(own), 0)


def test_training_looks_at_its_own_number_of_detections(
    features: Features, make_targets: MakeTargets
) -> None:
    model = detector()
    model.score_threshold = 0.0
    batch = ImageBatch(torch.zeros(2, 3, 128, 192), [(128, 192)] * 2)
    assert [len(d) for d in model.detect(features, batch)] == [5, 5]
    (best, _) = model.head.detect(model.head(features), 9)
    targets = [make_targets((128, 192), [(0, 0, 9, 9)]), make_targets((128, 192), [])]
    targets[0].boxes = best.boxes[8:9].detach()  # on the last one that training looks at
    losses, samples = model.loss(features, batch, targets)
    assert set(losses) == {"loss_class", "loss_box", "loss_centerness"}
    own, none = (len(s) for s in samples)
    assert own >= 2
    assert none == 0
    assert (samples[0].boxes == best.boxes[8]).all(1).sum() == 2  # the detection and the object
    assert not samples[0].boxes.requires_grad


def test_initial_weights_are_the_published_ones() -> None:
    """Kaiming's normal by outputs, but for the last layers."""
    torch.manual_seed(0)
    head = SpatialAttentionMaskHead(
        in_channels=64, num_classes=5, pooler=RoIPooler(strides=STRIDES, size=14), channels=64
    )
    assert head.predictor.mask_fcn_logits.weight.std().item() == pytest.approx(0.001, rel=0.2)
    scorer = CenterMaskIoUHead(in_channels=4, num_classes=5, channels=4, hidden=64)
    first, second, last = scorer.regress[1], scorer.regress[4], scorer.regress[7]
    for layer in (first, second):
        assert layer.weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.05)
    assert last.weight.std().item() == pytest.approx(0.01, rel=0.2)


def test_the_ious_target_counts_the_whole_object(make_targets: MakeTargets) -> None:
    """Against areas counted cell by cell, of a mask that shows three quarters of its object."""
    torch.manual_seed(0)
    scorer = CenterMaskIoUHead(in_channels=4, num_classes=2, channels=4, hidden=8)
    logits, truth = torch.randn(1, 2, 28, 28), (torch.rand(1, 28, 28) > 0.4).float()
    pooled, labels = torch.randn(1, 4, 14, 14), torch.tensor([1])
    sample = RoISamples(torch.zeros(1, 4), labels, torch.tensor([0]))
    with (
        patch.object(mask_heads, "crop_masks", lambda *_, **__: truth),
        patch.object(mask_heads, "share_inside", lambda *_: torch.tensor([0.75])),
    ):
        target = make_targets((28, 28), [(0, 0, 28, 28)])
        loss = scorer.loss(RoIOutputs(pooled, logits), [sample], [target])
    both = mask = shown = 0
    for row in range(28):
        for column in range(28):
            positive, true = bool(logits[0, 1, row, column] > 0), bool(truth[0, row, column])
            both, mask, shown = both + (positive and true), mask + positive, shown + true
    expected = both / (mask + shown / 0.75 - both)
    smaller = F.max_pool2d(logits[:, 1:].sigmoid(), 2)
    predicted = scorer.regress(scorer.convs(torch.cat([pooled, smaller], 1)))[0, 1]
    assert loss["loss_iou_score"].item() == pytest.approx(0.5 * (predicted.item() - expected) ** 2)
