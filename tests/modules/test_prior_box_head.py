from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import box_convert

from b2inst.modules.prior_box_head import PriorBoxHead, PriorOutputs
from b2inst.modules.prior_targets import corners
from b2inst.structures import Targets

MakeTargets = Callable[..., Targets]
SIDE, D, C = 64, 5, 3


@pytest.fixture
def head() -> PriorBoxHead:
    torch.manual_seed(0)
    return PriorBoxHead(
        in_channels=6,
        num_classes=C,
        num_coefficients=D,
        side=SIDE,
        strides=(8, 16),
        scales=(16, 32),
    )


@pytest.fixture
def features() -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {s: torch.randn(2, 6, SIDE // s, SIDE // s, generator=generator) for s in (4, 8, 16)}


def test_numbers_of_a_prior_lie_together(head: PriorBoxHead, features: dict[int, Tensor]) -> None:
    """Level by level, row by row, prior by prior; of the channels each prior has a block."""
    outputs = head(features)
    count = 3 * (8 * 8 + 4 * 4)
    assert outputs.class_logits.shape == (2, count, 1 + C)
    assert outputs.offsets.shape == (2, count, 4)
    assert head.priors(outputs).shape == (count, 4)
    start, row, column, which = 3 * 64, 2, 1, 2
    place = start + (row * 4 + column) * 3 + which
    tower = F.relu(head.tower(features[16]))
    logits = head.class_logits(tower)[:, which * (1 + C) : (which + 1) * (1 + C), row, column]
    torch.testing.assert_close(outputs.class_logits[:, place], logits)
    offsets = head.offsets(tower)[:, which * 4 : (which + 1) * 4, row, column]
    torch.testing.assert_close(outputs.offsets[:, place], offsets)
    expected = [(column + 0.5) / 4, (row + 0.5) / 4, *[32 / SIDE * PriorBoxHead.factors[which]] * 2]
    assert head.priors(outputs)[place].tolist() == pytest.approx(expected)


def test_coefficients_of_few_priors_are_those_of_the_whole_map(
    head: PriorBoxHead, features: dict[int, Tensor]
) -> None:
    outputs = head(features)
    whole = torch.cat(
        [
            head.coefficients(tower).permute(0, 2, 3, 1).reshape(2, -1, D)
            for tower in outputs.towers
        ],
        dim=1,
    )
    image = torch.tensor([1, 0, 0, 1, 1])
    prior = torch.tensor([0, 7, 239, 192, 100])
    torch.testing.assert_close(head.coefficients_at(outputs, image, prior), whole[image, prior])
    nothing = torch.zeros(0, dtype=torch.int64)
    assert head.coefficients_at(outputs, nothing, nothing).shape == (0, D)


def certain(outputs: PriorOutputs, found: dict[int, int]) -> PriorOutputs:
    """The same outputs with prior → class in the first image, background elsewhere."""
    logits = torch.full_like(outputs.class_logits, -20.0)
    logits[..., 0] = 0
    for prior, label in found.items():
        logits[0, prior] = torch.tensor([0.0, *[-20.0] * C])
        logits[0, prior, 1 + label] = 2.0
    return PriorOutputs(logits, torch.zeros_like(outputs.offsets), outputs.towers)


def test_detections_are_in_pixels_of_the_network(
    head: PriorBoxHead, features: dict[int, Tensor]
) -> None:
    outputs = head(features)
    found, nothing = head.detect(certain(outputs, {0: 2, 200: 0}))
    assert sorted(found.labels.tolist()) == [0, 0, 1, 1, 2, 2]  # each box under every class
    assert found.scores[:2].tolist() == pytest.approx([torch.tensor(2.0).sigmoid().item()] * 2)
    assert (found.scores[2:] < head.score_threshold).all()
    for prior, label in ((0, 2), (200, 0)):
        (row,) = ((found.labels == label) & (found.scores > 0.5)).nonzero()[:, 0].tolist()
        box = corners(head.priors(outputs)[prior]) * SIDE
        torch.testing.assert_close(found.boxes[row], box)
        own = head.coefficients_at(outputs, torch.tensor([0]), torch.tensor([prior]))[0]
        torch.testing.assert_close(found.coefficients[row], own)
    assert len(nothing) == 0
    assert nothing.coefficients.shape == (0, D)


def test_images_of_any_shape_have_square_priors_at_the_cells_of_a_stride() -> None:
    """In pixels: cells 8 and 16 apart, priors of 16 and 32 times a factor, whatever the side is."""
    head = PriorBoxHead(
        in_channels=6,
        num_classes=C,
        num_coefficients=D,
        side=40,
        square=False,
        strides=(8, 16),
        scales=(16, 32),
    )
    features = {8: torch.randn(2, 6, 4, 12), 16: torch.randn(2, 6, 2, 6)}  # of 32×96 pixels
    outputs = head(features)
    start, row, column, which = 3 * 4 * 12, 1, 4, 2
    place = start + (row * 6 + column) * 3 + which
    found, _ = head.detect(certain(outputs, {place: 1}))
    expected = [4.5 * 16, 1.5 * 16, *[32 * PriorBoxHead.factors[which]] * 2]
    assert box_convert(found.boxes[0], "xyxy", "cxcywh").tolist() == pytest.approx(expected)


def test_suppression_is_handed_in(features: dict[int, Tensor]) -> None:
    def last(boxes: Tensor, scores: Tensor, *, most: int) -> tuple[Tensor, Tensor]:
        assert most == 100
        rows = torch.arange(len(boxes))[-1:]
        return rows, torch.ones_like(rows)

    head = PriorBoxHead(
        in_channels=6,
        num_classes=C,
        num_coefficients=D,
        side=SIDE,
        strides=(8,),
        scales=(16,),
        nms=last,
    )
    outputs = head(features)
    (found, nothing) = head.detect(certain(outputs, {3: 0, 30: 2}))
    assert found.labels.tolist() == [1]
    torch.testing.assert_close(found.boxes[0], corners(head.priors(outputs)[30]) * SIDE)
    assert len(nothing) == 0


def test_losses_are_those_written_out(
    head: PriorBoxHead, features: dict[int, Tensor], make_targets: MakeTargets
) -> None:
    outputs = head(features)
    targets = [
        make_targets((SIDE, SIDE), [(4, 4, 22, 20), (20, 30, 60, 62)], labels=[2, 0]),
        make_targets((SIDE, SIDE), [(30, 8, 46, 24)], labels=[1]),
    ]
    losses, positives = head.loss(outputs, targets)
    assigned = head.targets(head.priors(outputs), targets)
    boxes = [t.boxes / SIDE for t in targets]
    count = 0
    classes = box = 0.0
    expected_index = []
    for b in range(2):
        logits, state = outputs.class_logits[b].double(), assigned.labels[b]
        positive = (state >= 0).nonzero()[:, 0]
        count += len(positive)
        cost = logits.logsumexp(1) - logits[:, 0]
        hardest = sorted(
            (s for s in range(len(state)) if state[s] == -1), key=lambda s: -cost[s].item()
        )[: 3 * len(positive)]
        classes += sum(cost[s].item() for s in hardest)
        for s in positive.tolist():
            classes += (logits[s].logsumexp(0) - logits[s, 1 + state[s]]).item()
            k = int(assigned.target_index[b, s])
            expected_index.append(k + (2 if b else 0))
            x, y, w, h = box_convert(boxes[b][k], "xyxy", "cxcywh").tolist()
            px, py, pw, ph = head.priors(outputs)[s].tolist()
            wanted = torch.tensor([(x - px) / pw / 0.1, (y - py) / ph / 0.1, w / pw, h / ph])
            wanted[2:] = wanted[2:].log() / 0.2
            off = (outputs.offsets[b, s] - wanted).abs()
            box += torch.where(off < 1, off**2 / 2, off - 0.5).sum().item()
    assert count > 3
    assert losses["loss_class"].item() == pytest.approx(classes / count, rel=1e-4)
    assert losses["loss_box"].item() == pytest.approx(1.5 * box / count, rel=1e-4)
    assert positives.weight_sum == count
    assert positives.target_index.tolist() == expected_index
    assert positives.image_index.tolist() == sorted(positives.image_index.tolist())
    assert ((positives.weights > 0) & (positives.weights <= 1)).all()


def test_images_without_objects_cost_nothing(
    head: PriorBoxHead, features: dict[int, Tensor], make_targets: MakeTargets
) -> None:
    losses, positives = head.loss(head(features), [make_targets((SIDE, SIDE), [])] * 2)
    assert {name: value.item() for name, value in losses.items()} == {
        "loss_class": 0,
        "loss_box": 0,
    }
    assert len(positives) == 0
    torch.stack(list(losses.values())).sum().backward()


def test_a_norm_takes_the_scale_of_the_features_away(features: dict[int, Tensor]) -> None:
    scaled = {stride: 100 * x for stride, x in features.items()}
    options: dict[str, Any] = {"in_channels": 6, "num_classes": C, "num_coefficients": D}
    options |= {"side": SIDE, "strides": (8, 16), "scales": (16, 32)}
    close = partial(torch.testing.assert_close, rtol=1e-3, atol=1e-3)
    normed = PriorBoxHead(**options, norm=partial(nn.GroupNorm, 2))
    close(normed(scaled).class_logits, normed(features).class_logits)
    plain = PriorBoxHead(**options)
    close(plain(scaled).class_logits, 100 * plain(features).class_logits)


def test_coefficients_may_begin_near_zero() -> None:
    options: dict[str, Any] = {"in_channels": 64, "num_classes": C, "num_coefficients": 32}
    usual, small = (PriorBoxHead(**options, coefficient_gain=gain) for gain in (1.0, 0.1))

    def spread(part: str) -> float:
        ours, theirs = (
            head.get_parameter(f"{part}.weight").std().item() for head in (small, usual)
        )
        return ours / theirs

    assert spread("coefficients") == pytest.approx(0.1, rel=0.05)
    assert spread("class_logits") == pytest.approx(1, rel=0.05)
