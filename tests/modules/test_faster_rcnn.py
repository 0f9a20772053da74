from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import nn
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from b2inst.modules.faster_rcnn import FasterRCNN
from b2inst.modules.layers import RoIPooler
from b2inst.structures import Features, ImageBatch, Targets

MakeTargets = Callable[..., Targets]
STRIDES = (4, 8, 16, 32)
SIZES = [(128, 128), (100, 120)]


def detector(**options: object) -> FasterRCNN:
    torch.manual_seed(0)
    return FasterRCNN(
        in_channels=8,
        num_classes=3,
        strides=STRIDES,
        anchor_sizes=(8, 16, 32, 64),
        box_pooler=RoIPooler(strides=STRIDES, size=7),
        box_head=TwoMLPHead,
        hidden=16,
        **options,
    )


@pytest.fixture
def features() -> Features:
    generator = torch.Generator().manual_seed(1)
    return {s: torch.randn(2, 8, 128 // s, 128 // s, generator=generator) for s in STRIDES}


@pytest.fixture
def batch() -> ImageBatch:
    return ImageBatch(torch.zeros(2, 3, 128, 128), SIZES)


def test_samples_are_boxes_on_their_objects(
    features: Features, batch: ImageBatch, make_targets: MakeTargets
) -> None:
    targets = [
        make_targets(SIZES[0], [(10, 10, 60, 50), (70, 20, 120, 110)], [2, 0]),
        make_targets(SIZES[1], [(5, 5, 100, 90)], [1]),
    ]
    losses, samples = detector().loss(features, batch, targets)
    names = {"objectness", "rpn_box_reg", "class", "box"}
    assert set(losses) == {f"loss_{name}" for name in names}
    assert all(value.isfinite() and value > 0 for value in losses.values())
    for sample, target in zip(samples, targets, strict=True):
        own = target.boxes[sample.target_index]
        assert (box_iou(sample.boxes, own).diagonal() >= 0.5).all()
        assert sample.labels.equal(target.labels[sample.target_index])
        for box in target.boxes:  # the true boxes are among the proposals
            assert (sample.boxes == box).all(1).any()
        assert not sample.boxes.requires_grad


def test_samples_may_be_moved_as_the_box_head_moves_boxes(
    features: Features, batch: ImageBatch, make_targets: MakeTargets
) -> None:
    """By the parametrisation of R-CNN with weights 10, 10, 5, 5."""
    target = [make_targets(size, [(10, 10, 60, 50)], [1]) for size in SIZES]
    moved = detector(refined_samples=True)
    still = copy.deepcopy(moved)
    still.refined_samples = False
    for model in (moved, still):  # the same shift, whatever the features
        predictor = model.roi_heads.box_predictor.bbox_pred
        nn.init.zeros_(predictor.weight)
        predictor.bias.data = torch.tensor([0.0] * 4 + [9.0] * 4 + [1, -2, 0.5, 1.5] + [9.0] * 4)
    results = []
    for model in (moved, still):
        torch.manual_seed(3)
        results.append(model.loss(features, batch, target)[1])
    for after, before in zip(*results, strict=True):
        size = before.boxes[:, 2:] - before.boxes[:, :2]
        centre = before.boxes[:, :2] + size / 2 + size * torch.tensor([1.0, -2]) / 10
        size = size * (torch.tensor([0.5, 1.5]) / 5).exp()
        expected = torch.cat([centre - size / 2, centre + size / 2], dim=1)
        torch.testing.assert_close(after.boxes, expected)
        assert after.labels.equal(before.labels)
        assert not after.boxes.requires_grad


def test_images_without_objects(
    features: Features, batch: ImageBatch, make_targets: MakeTargets
) -> None:
    losses, samples = detector().loss(features, batch, [make_targets(s, []) for s in SIZES])
    assert [len(s) for s in samples] == [0, 0]
    assert losses["loss_box"] == losses["loss_rpn_box_reg"] == 0
    assert losses["loss_objectness"] > 0
    torch.stack(list(losses.values())).sum().backward()


def test_detections_are_in_their_images(features: Features, batch: ImageBatch) -> None:
    model = detector().eval()
    model.score_threshold, model.max_detections = 0.0, 20
    for found, (height, width) in zip(model.detect(features, batch), SIZES, strict=True):
        assert len(found) == 20
        assert found.coefficients.shape == (20, 0)
        assert set(found.labels.tolist()) <= {0, 1, 2}
        assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
        x1, y1, x2, y2 = found.boxes.unbind(1)
        assert (x1 >= 0).all()
        assert (y1 >= 0).all()
        assert (x2 <= width).all()
        assert (y2 <= height).all()


def test_the_threshold_is_on_the_class_probability(features: Features, batch: ImageBatch) -> None:
    model = detector().eval()
    model.score_threshold = 1.0
    assert [len(found) for found in model.detect(features, batch)] == [0, 0]
    model.score_threshold = 0.2
    assert all((found.scores > 0.2).all() for found in model.detect(features, batch))


def test_proposals_are_decoded_in_float32(features: Features, batch: ImageBatch) -> None:
    """A box of a large image needs more than bfloat16's eight bits."""
    model = detector().eval()
    model.score_threshold = 0.0
    with torch.autocast("cpu", torch.bfloat16):
        found = model.detect(features, batch)[0].boxes
    assert found.dtype == torch.float32
    assert (found != found.bfloat16().float()).any()


@pytest.mark.parametrize("detectron2", [False, True])
def test_anchors_are_not_rounded_to_the_features_precision(detectron2: bool) -> None:
    generator = detector(detectron2=detectron2).rpn.anchor_generator
    images = ImageList(torch.zeros(1, 3, 1000, 800), [(1000, 800)])
    maps = [torch.zeros(1, 8, -(-1000 // s), -(-800 // s)) for s in STRIDES]
    (expected,) = generator(images, maps)
    (found,) = generator(images, [level.bfloat16() for level in maps])
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_detectron2s_anchors_are_not_rounded_and_step_by_strides() -> None:
    """Corners of each by the definition, on a map whose last cells reach beyond the image."""
    sizes = (8, 16, 32, 64)
    maps = [torch.zeros(1, 8, -(-100 // s), -(-72 // s)) for s in STRIDES]
    images = ImageList(torch.zeros(2, 3, 100, 72), [(100, 72)] * 2)
    first, second = detector(detectron2=True).rpn.anchor_generator(images, maps)
    expected = []
    for stride, size, level in zip(STRIDES, sizes, maps, strict=True):
        for row, column in product(range(level.shape[2]), range(level.shape[3])):
            for ratio in (0.5, 1, 2):
                width = (size**2 / ratio) ** 0.5
                x, y, height = column * stride, row * stride, ratio * width
                expected.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    torch.testing.assert_close(first, torch.tensor(expected))
    assert second.equal(first)


@pytest.mark.parametrize("detectron2", [False, True])
def test_errors_of_boxes_are_squared_near_zero_or_not(
    detectron2: bool, features: Features, batch: ImageBatch, make_targets: MakeTargets
) -> None:
    """With hardly any weight a box is not moved, and its error is its target."""
    model = detector(detectron2=detectron2, refined_samples=False)
    for layer in (model.rpn.head.bbox_pred, model.roi_heads.box_predictor.bbox_pred):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    targets = [make_targets(size, [(10, 10, 60, 50)]) for size in SIZES]
    seen = []
    plain = model.roi_heads.select_training_samples
    model.roi_heads.select_training_samples = lambda *a: seen.append(plain(*a)) or seen[-1]
    losses, _ = model.loss(features, batch, targets)
    (_, _, labels, moves) = seen[0]
    errors = torch.cat(moves)[torch.cat(labels) > 0].abs()
    if not detectron2:
        errors = torch.where(errors < 1 / 9, 4.5 * errors**2, errors - 1 / 18)
    expected = errors.sum() / len(torch.cat(labels))
    torch.testing.assert_close(losses["loss_box"], expected)
