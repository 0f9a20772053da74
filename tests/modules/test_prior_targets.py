from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import box_convert, box_iou

from b2inst.modules.prior_targets import (
    BACKGROUND,
    NEUTRAL,
    assign,
    corners,
    decode,
    encode,
    prior_boxes,
)


def test_squares_around_the_centres_of_cells_level_by_level() -> None:
    got = prior_boxes([(2, 3), (1, 1)], scales=(0.25, 0.5), factors=(1, 2))
    expected = []
    for (height, width), scale in (((2, 3), 0.25), ((1, 1), 0.5)):
        for y in range(height):
            for x in range(width):
                for factor in (1, 2):
                    side = scale * factor
                    expected.append([(x + 0.5) / width, (y + 0.5) / height, side, side])
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_as_many_as_published() -> None:
    """yolact_facts.md §5: levels of 69, 35, 18, 9 and 5 cells."""
    shapes = [(n, n) for n in (69, 35, 18, 9, 5)]
    assert prior_boxes(shapes, scales=(1,) * 5, factors=(1, 1, 1)).shape == (19248, 4)


boxes = st.tuples(*[st.floats(-1, 1, width=32)] * 2, *[st.floats(0.0625, 1, width=32)] * 2)


@given(st.lists(st.tuples(boxes, boxes), min_size=1, max_size=5))
def test_what_is_encoded_is_decoded(pairs: list[tuple[tuple[float, ...], ...]]) -> None:
    centred, priors = torch.tensor(pairs).unbind(1)
    wanted = box_convert(centred, "cxcywh", "xyxy")
    torch.testing.assert_close(corners(centred), wanted)
    torch.testing.assert_close(decode(encode(wanted, priors), priors), wanted, atol=1e-4, rtol=1e-4)


def test_offsets_are_in_units_of_their_variances() -> None:
    prior = torch.tensor([0.5, 0.5, 0.2, 0.4])
    box = torch.tensor([0.45, 0.3, 0.65, 0.7])  # moved by a quarter of its width
    assert encode(box, prior).tolist() == pytest.approx([2.5, 0, 0, 0], abs=1e-5)
    twice = torch.tensor([0.3, 0.1, 0.7, 0.9])
    assert encode(twice, prior).tolist() == pytest.approx([0, 0, np.log(2) * 5, np.log(2) * 5])


PRIORS = prior_boxes([(6, 6), (3, 3)], scales=(0.2, 0.4), factors=(1, 0.7, 1.4))

objects = st.lists(
    st.tuples(st.floats(0, 0.8), st.floats(0, 0.8), st.floats(0.05, 0.5), st.floats(0.05, 0.5)),
    max_size=5,
)


def by_hand(overlaps: np.ndarray) -> tuple[list[int], list[int]]:
    """State (object's row + 1, 0 background, -1 neutral) and object of every prior."""
    count, priors = overlaps.shape
    owner = [int(overlaps[:, s].argmax()) for s in range(priors)]
    best = [float(overlaps[owner[s], s]) for s in range(priors)]
    free_objects, free_priors = set(range(count)), set(range(priors))
    while free_objects:
        n, s = max(
            ((n, s) for n in free_objects for s in free_priors),
            key=lambda pair: (overlaps[pair], -pair[0], -pair[1]),
        )
        owner[s], best[s] = n, 2.0
        free_objects.remove(n)
        free_priors.remove(s)
    state = [owner[s] + 1 if best[s] >= 0.5 else 0 if best[s] < 0.4 else -1 for s in range(priors)]
    return state, owner


@given(objects)
def test_are_those_of_a_written_out_rule(given_objects: list[tuple[float, ...]]) -> None:
    xywh = torch.tensor(given_objects, dtype=torch.float32).reshape(-1, 4)
    boxes = torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
    labels = torch.arange(len(boxes)) + 10
    found = assign(PRIORS, [boxes], [labels], [None])
    if not len(boxes):
        assert (found.labels == BACKGROUND).all()
        assert not found.offsets.any()
        return
    overlaps = box_iou(boxes, corners(PRIORS)).numpy()
    state, owner = by_hand(overlaps)
    expected = [s - 1 + 10 if s > 0 else BACKGROUND if s == 0 else NEUTRAL for s in state]
    assert found.labels[0].tolist() == expected
    positive = found.labels[0] >= 0
    own = torch.tensor(owner)
    assert found.target_index[0][positive].equal(own[positive])
    torch.testing.assert_close(found.offsets[0][positive], encode(boxes[own], PRIORS)[positive])
    assert not found.offsets[0][~positive].any()
    torch.testing.assert_close(
        found.overlaps[0], torch.from_numpy(overlaps[own.numpy(), np.arange(len(PRIORS))])
    )


def test_every_object_gets_a_prior_even_where_two_are_the_same() -> None:
    box = torch.tensor([[0.1, 0.1, 0.13, 0.12]])
    found = assign(PRIORS, [box.expand(3, -1)], [torch.arange(3)], [torch.zeros(0, 4)])
    positive = found.labels[0] >= 0
    assert sorted(found.labels[0][positive].tolist()) == [0, 1, 2]
    assert sorted(found.target_index[0][positive].tolist()) == [0, 1, 2]


def test_images_do_not_mix() -> None:
    boxes = [torch.tensor([[0.1, 0.1, 0.4, 0.4]]), torch.zeros(0, 4)]
    found = assign(
        PRIORS, boxes, [torch.tensor([3]), torch.zeros(0, dtype=torch.int64)], [None, None]
    )
    assert (found.labels[0] == 3).any()
    assert (found.labels[1] == BACKGROUND).all()
    assert found.offsets.shape == (2, len(PRIORS), 4)


def test_in_a_crowd_only_positives_are_trained() -> None:
    box, crowd = torch.tensor([[0.1, 0.1, 0.4, 0.4]]), torch.tensor([[0.0, 0.05, 0.5, 0.6]])
    elsewhere = torch.tensor([[0.9, 0.9, 1.0, 1.0]])
    label = torch.tensor([1])
    (plain,) = assign(PRIORS, [box], [label], [None]).labels
    (found,) = assign(PRIORS, [box], [label], [torch.cat([elsewhere, crowd])]).labels
    for prior, before, after in zip(corners(PRIORS).tolist(), plain, found, strict=True):
        x1, y1, x2, y2 = prior
        both = max(min(x2, 0.5) - max(x1, 0), 0) * max(min(y2, 0.6) - max(y1, 0.05), 0)
        inside = both / ((x2 - x1) * (y2 - y1)) > 0.7
        assert after == (NEUTRAL if inside and before < 0 else before)
    assert (plain == BACKGROUND).sum() > (found == BACKGROUND).sum() > 0
    assert (found >= 0).any()
