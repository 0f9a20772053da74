from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import nms

from b2inst.modules.fcos_head import DenseOutputs, FCOSHead
from b2inst.structures import Detections, Targets

STRIDES = (8, 16)
SHAPES = ((6, 8), (3, 4))  # of 48×64 pixels
POSITIONS = 6 * 8 + 3 * 4


def make_head(num_shared_convs: int = 0, **attributes: object) -> FCOSHead:
    torch.manual_seed(0)
    head = FCOSHead(
        in_channels=8,
        num_classes=3,
        num_coefficients=5,
        strides=STRIDES,
        object_size=3,
        num_convs=1,
        num_shared_convs=num_shared_convs,
    )
    for name, value in attributes.items():
        setattr(head, name, value)
    return head


def features(batch: int = 2) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        stride: torch.randn(batch, 8, *shape, generator=generator)
        for stride, shape in zip(STRIDES, SHAPES, strict=True)
    }


def random_outputs(seed: int) -> DenseOutputs:
    generator = torch.Generator().manual_seed(seed)
    return DenseOutputs(
        class_logits=torch.randn(2, POSITIONS, 3, generator=generator) * 2,
        distances=torch.rand(2, POSITIONS, 4, generator=generator) * 3,
        centerness_logits=torch.randn(2, POSITIONS, generator=generator) * 2,
        towers=list(features().values()),
    )


def test_outputs_by_level_row_by_row() -> None:
    head = make_head()
    outputs = head(features())
    assert outputs.class_logits.shape == (2, POSITIONS, 3)
    assert outputs.centerness_logits.shape == (2, POSITIONS)
    dense = head.class_logits(head.class_tower(features()[16]))
    torch.testing.assert_close(outputs.class_logits[:, 48 + 4 * 2 + 1], dense[:, :, 2, 1])
    assert (outputs.distances >= 0).all()


def test_a_shared_tower_is_computed_before_both_others() -> None:
    plain, shared = make_head(), make_head(num_shared_convs=2)
    missing, unexpected = shared.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {name.split(".")[0] for name in missing} == {"shared_tower"}
    seen = {stride: shared.shared_tower(feature) for stride, feature in features().items()}
    got, expected = shared(features()), plain(seen)
    assert torch.equal(got.class_logits, expected.class_logits)
    assert torch.equal(got.distances, expected.distances)
    assert torch.equal(got.centerness_logits, expected.centerness_logits)
    assert not torch.equal(got.class_logits, plain(features()).class_logits)


def test_classes_start_at_a_prior_of_one_in_a_hundred() -> None:
    probabilities = make_head()(features()).class_logits.sigmoid()
    torch.testing.assert_close(
        probabilities, torch.full_like(probabilities, 0.01), rtol=0.5, atol=0
    )


def test_coefficients_are_those_of_the_dense_convolution() -> None:
    head = make_head()
    outputs = head(features())
    dense = torch.cat([head.coefficients(tower).flatten(2) for tower in outputs.towers], 2)
    image, position = torch.tensor([[0, 1, 1, 0, 1], [0, 47, 48, 59, 20]])
    got = head.coefficients_at(outputs, image, position)
    torch.testing.assert_close(got, dense[image, :, position])
    assert head.coefficients_at(outputs, image[:0], position[:0]).shape == (0, 5)


def by_hand(
    outputs: DenseOutputs, b: int, threshold: float, nms_iou: float
) -> set[tuple[int, int]]:
    """Kept (position, class) pairs, class by class, with torchvision's plain NMS."""
    cells = [(s, r, c) for s, (h, w) in zip(STRIDES, SHAPES, strict=True)
             for r in range(h) for c in range(w)]  # fmt: skip
    kept: set[tuple[int, int]] = set()
    for label in range(3):
        rows, boxes, scores = [], [], []
        for position, (stride, row, column) in enumerate(cells):
            score = float(outputs.class_logits[b, position, label].sigmoid())
            score *= float(outputs.centerness_logits[b, position].sigmoid())
            if score > threshold:
                x, y = column * stride + stride / 2, row * stride + stride / 2
                left, top, right, bottom = (outputs.distances[b, position] * stride).tolist()
                rows.append(position)
                boxes.append([x - left, y - top, x + right, y + bottom])
                scores.append(score)
        if rows:
            for i in nms(torch.tensor(boxes), torch.tensor(scores), nms_iou).tolist():
                kept.add((rows[i], label))
    return kept


@pytest.mark.parametrize("seed", range(4))
def test_detections_are_those_of_a_plain_loop(seed: int) -> None:
    outputs = random_outputs(seed)
    head = make_head(score_threshold=0.2, nms_iou=0.5)
    for b, found in enumerate(head.detect(outputs)):
        expected = by_hand(outputs, b, 0.2, 0.5)
        assert len(found) == len(expected) > 10
        product = (
            outputs.class_logits[b].sigmoid() * outputs.centerness_logits[b].sigmoid()[:, None]
        )
        wanted = sorted((product[p, c].sqrt().item() for p, c in expected), reverse=True)
        assert found.scores.tolist() == pytest.approx(wanted)  # the square root ranks, as published
        assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
        counts = np.bincount([c for _, c in expected], minlength=3)
        assert found.labels.bincount(minlength=3).tolist() == counts.tolist()


def dense(product: float, count: int) -> DenseOutputs:
    """The first ``count`` positions have class 1 and centerness 1 with a product of scores."""
    outputs = random_outputs(0)
    outputs.class_logits.fill_(-50)
    outputs.class_logits[:, :count, 1] = math.log(product / (1 - product))
    outputs.centerness_logits.fill_(50)
    outputs.distances.fill_(0.4)  # no overlap
    return outputs


def test_threshold_is_on_the_product_and_strict() -> None:
    head = make_head(score_threshold=0.5)
    assert [len(d) for d in head.detect(dense(0.5, 10))] == [0, 0]
    assert [len(d) for d in head.detect(dense(0.51, 10))] == [10, 10]


def test_at_most_so_many_a_level_and_in_all() -> None:
    head = make_head(pre_nms=7, max_detections=2)
    # Ten times as many candidates as wanted.
    assert [len(d) for d in head.detect(dense(0.9, 48), limit=1000)] == [20, 20]
    assert [len(d) for d in head.detect(dense(0.9, 48))] == [
        2,
        2,
    ]  # also where all scores are equal
    outputs = dense(0.9, 48)
    outputs.class_logits[:, 30:37, 1] += 1
    for found in make_head(max_detections=7).detect(outputs):
        assert len(found) == 7
        assert found.scores.min() > 0.95


def test_boxes_are_not_clipped() -> None:
    outputs = dense(0.9, 1)
    outputs.distances[:, 0] = torch.tensor([2.0, 3, 1, 1])
    assert make_head().detect(outputs)[0].boxes.tolist() == [[4 - 16, 4 - 24, 12, 12]]


def test_nothing_found_keeps_shapes_and_types() -> None:
    found: Detections = make_head().detect(dense(0.001, 5))[0]
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == (0,)
    assert found.labels.dtype == torch.int64
    assert found.coefficients.shape == (0, 5)


def test_losses_of_exact_predictions_are_almost_zero(make_targets: Callable[..., Targets]) -> None:
    target = make_targets((48, 64), [(8, 8, 40, 32)], labels=[2])
    head = make_head()
    outputs = head(features(1))
    _, positives = head.loss(outputs, [target])
    assert len(positives) > 0
    assert positives.weight_sum == pytest.approx(positives.weights.sum().item())

    points = torch.cat(head._points(outputs))
    left_top, right_bottom = points - target.boxes[0, :2], target.boxes[0, 2:] - points
    outputs.distances[0] = torch.cat([left_top, right_bottom], 1).clamp(min=0)
    outputs.distances[0] /= torch.tensor([8.0] * 48 + [16.0] * 12)[:, None]
    losses, _ = head.loss(outputs, [target])
    assert losses["loss_box"].item() == pytest.approx(0, abs=1e-6)


def test_an_image_without_objects_only_teaches_background(
    make_targets: Callable[..., Targets],
) -> None:
    head = make_head()
    losses, positives = head.loss(head(features()), [make_targets((48, 64), [])] * 2)
    assert len(positives) == 0
    assert positives.coefficients.shape == (0, 5)
    assert losses["loss_box"] == 0
    assert losses["loss_centerness"] == 0
    # alpha 0.25 and gamma 2 at a probability of about 0.01 everywhere, divided by 1
    expected = 2 * POSITIONS * 3 * 0.75 * 0.01**2 * -math.log(0.99)
    assert losses["loss_class"].item() == pytest.approx(expected, rel=0.1)
    sum(losses.values()).backward()  # type: ignore[union-attr]
    gradients = [p.grad for p in head.class_tower.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)


def test_targets_are_counted_through_the_batch(make_targets: Callable[..., Targets]) -> None:
    first = make_targets((48, 64), [(0, 0, 20, 20), (30, 20, 50, 40)])
    second = make_targets((48, 64), [(8, 8, 30, 30)])
    head = make_head()
    _, positives = head.loss(head(features()), [first, second])
    assert set(positives.target_index[positives.image_index == 0].tolist()) == {0, 1}
    assert set(positives.target_index[positives.image_index == 1].tolist()) == {2}


def test_a_scale_of_each_level_is_before_the_relu() -> None:
    class Flip(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -2 * x

    plain, flipped = make_head(), make_head(scales=torch.nn.ModuleList([Flip(), Flip()]))
    assert plain.state_dict().keys() == flipped.state_dict().keys()
    box_tower = plain.box_tower(features()[16])
    raw = plain.distances(box_tower).flatten(2).mT
    torch.testing.assert_close(flipped(features()).distances[:, 48:], (-2 * raw).clamp(min=0))
    torch.testing.assert_close(plain(features()).distances[:, 48:], raw.clamp(min=0))


def test_centres_are_what_positives_lie_around(make_targets: Callable[..., Targets]) -> None:
    target = make_targets((48, 64), [(0, 0, 48, 40)])
    head = make_head(centres=lambda t: torch.tensor([[12.0, 12]]).expand(len(t), 2), radius=0.6)
    _, positives = head.loss(head(features(1)), [target])
    everywhere = make_head(radius=100)
    _, all_ = everywhere.loss(everywhere(features(1)), [target])
    assert 0 < len(positives) < len(all_)
