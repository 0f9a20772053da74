from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from b2inst.modules.fcos_head import CondInstHead, FCOSHead
from b2inst.structures import Targets

SHAPES = {8: (6, 8), 16: (3, 4)}  # of 48×64 pixels


def make_head() -> CondInstHead:
    torch.manual_seed(0)
    return CondInstHead(
        in_channels=8,
        num_classes=3,
        num_coefficients=5,
        strides=(8, 16),
        object_size=3,
        num_convs=1,
    )


def features(batch: int = 2) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {s: torch.randn(batch, 8, *shape, generator=generator) for s, shape in SHAPES.items()}


def test_coefficients_end_with_the_position_and_its_levels_size() -> None:
    head = make_head()
    outputs = head(features())
    image, position = torch.tensor([[0, 1, 1], [9, 47, 48 + 4 + 2]])
    got = head.coefficients_at(outputs, image, position)
    torch.testing.assert_close(got[:, :2], FCOSHead.coefficients_at(head, outputs, image, position))
    assert got[:, 2:].tolist() == [[12, 12, 24], [60, 44, 24], [40, 24, 48]]
    assert head.coefficients_at(outputs, image[:0], position[:0]).shape == (0, 5)


def test_a_single_level_has_a_size_in_strides() -> None:
    head = CondInstHead(
        in_channels=8,
        num_classes=3,
        num_coefficients=5,
        strides=(8,),
        num_convs=1,
    )
    outputs = head({8: features()[8]})
    found = head.coefficients_at(outputs, torch.tensor([0]), torch.tensor([9]))
    assert found[:, 2:].tolist() == [[12, 12, 64]]


def test_detections_carry_where_they_are_from() -> None:
    head = make_head()
    outputs = head(features())
    outputs.class_logits.fill_(-50)
    outputs.class_logits[:, 9, 1] = 5
    outputs.centerness_logits.fill_(50)
    for found in head.detect(outputs):
        assert found.coefficients[:, 2:].tolist() == [[12, 12, 24]]


def test_each_level_learns_a_factor_that_starts_at_one() -> None:
    head = make_head()
    factors = {k: v for k, v in head.state_dict().items() if k.startswith("scales")}
    assert {k: v.tolist() for k, v in factors.items()} == {
        "scales.0.scale": [1],
        "scales.1.scale": [1],
    }
    before = head(features()).distances
    with torch.no_grad():
        head.scales[1].scale.fill_(3)
    after = head(features()).distances
    assert after[:, :48].equal(before[:, :48])
    torch.testing.assert_close(after[:, 48:], 3 * before[:, 48:])
    after.sum().backward()
    assert all(scale.scale.grad.abs() > 0 for scale in head.scales)  # type: ignore[union-attr]


def test_positives_lie_around_the_centroid_of_the_mask(
    make_targets: Callable[..., Targets],
) -> None:
    target = make_targets((48, 64), [(0, 0, 48, 48)])
    target.masks[0, :40, 8:] = 0
    head = make_head()
    head.radius = 0.65
    _, positives = head.loss(head(features(1)), [target])
    assert positives.coefficients[:, 2:].tolist() == [
        [8, 24, 48], [24, 24, 48], [8, 40, 48], [24, 40, 48],
    ]  # fmt: skip
