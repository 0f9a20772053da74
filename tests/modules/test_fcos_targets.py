from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from b2inst.modules.fcos_targets import assign, box_centres, centerness, locations, mask_centroids
from b2inst.structures import Targets

STRIDES = (8, 16, 32)
INTEREST = ((-1.0, 24.0), (24.0, 48.0), (48.0, 1e8))
SHAPES = ((12, 16), (6, 8), (3, 4))  # of 96×128 pixels


def points() -> list[torch.Tensor]:
    return [
        locations(shape, stride, torch.device("cpu"))
        for shape, stride in zip(SHAPES, STRIDES, strict=True)
    ]


def by_hand(boxes: np.ndarray, labels: list[int], radius: float) -> list[tuple[object, ...]]:
    """Every position by itself: label, target, distances in strides, centerness."""
    result: list[tuple[object, ...]] = []
    for shape, stride, (low, high) in zip(SHAPES, STRIDES, INTEREST, strict=True):
        for row in range(shape[0]):
            for column in range(shape[1]):
                x, y = column * stride + stride // 2, row * stride + stride // 2
                best: tuple[object, ...] | None = None
                smallest = np.inf
                for i, (x1, y1, x2, y2) in enumerate(boxes):
                    sides = np.array([x - x1, y - y1, x2 - x, y2 - y])
                    central = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2)) < radius * stride
                    area = (x2 - x1) * (y2 - y1)
                    if not (sides.min() > 0 and central and low <= sides.max() <= high):
                        continue
                    if area < smallest:
                        left, top, right, bottom = sides
                        ratio = min(left, right) / max(left, right)
                        ratio *= min(top, bottom) / max(top, bottom)
                        smallest = area
                        best = (labels[i], i, *(sides / stride), np.sqrt(ratio))
                result.append(best or (9, None))
    return result


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 67), st.integers(1, 35)),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([1.5, 2.5]),
)
def test_equals_a_loop_over_all_positions_and_boxes(
    xywh: list[tuple[int, int, int, int]], radius: float
) -> None:
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in xywh], np.float32)
    labels = [i % 9 for i in range(len(boxes))]
    target = Targets(
        image_id=0,
        boxes=torch.from_numpy(boxes),
        labels=torch.tensor(labels),
        masks=torch.zeros(len(boxes), 1, 1, dtype=torch.uint8),
        semantic=torch.zeros(1, 1, dtype=torch.uint8),
    )
    got = assign(points(), STRIDES, INTEREST, [target], num_classes=9, radius=radius)
    expected = by_hand(boxes, labels, radius)
    assert got.labels[0].tolist() == [one[0] for one in expected]
    for position, one in enumerate(expected):
        if one[0] == 9:
            assert got.centerness[0, position] == 0
            continue
        assert got.target_index[0, position] == one[1]
        values = [*got.distances[0, position].tolist(), got.centerness[0, position].item()]
        assert values == pytest.approx(one[2:], rel=1e-5)


def test_locations_are_x_y_row_by_row() -> None:
    assert locations((2, 3), 8, torch.device("cpu")).tolist() == [
        [4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12],
    ]  # fmt: skip


def test_both_ends_of_a_size_of_interest_count(make_targets: Callable[..., Targets]) -> None:
    """The farthest side is exactly 24 from the positions at (20, 20) and (24, 24)."""
    level0 = make_targets((96, 128), [(0, 0, 40, 44)])
    got = assign(points(), STRIDES, INTEREST, [level0], num_classes=1, radius=1.5)
    positive = (got.labels[0] == 0).nonzero()[:, 0].tolist()
    assert 2 * 16 + 2 in positive  # (20, 20) at stride 8: max(20, 20, 20, 24) = 24
    assert 12 * 16 + 1 * 8 + 1 in positive  # (24, 24) at stride 16: max(24, 24, 16, 20) = 24


def test_of_equal_boxes_the_first_wins(make_targets: Callable[..., Targets]) -> None:
    twins = make_targets((96, 128), [(8, 8, 40, 40), (8, 8, 40, 40)], labels=[3, 4])
    got = assign(points(), STRIDES, INTEREST, [twins], num_classes=9, radius=1.5)
    positive = got.labels[0] != 9
    assert positive.any()
    assert set(got.labels[0, positive].tolist()) == {3}
    assert set(got.target_index[0, positive].tolist()) == {0}


def test_images_without_objects_are_background(make_targets: Callable[..., Targets]) -> None:
    targets = [make_targets((96, 128), []), make_targets((96, 128), [(8, 8, 40, 40)])]
    got = assign(points(), STRIDES, INTEREST, targets, num_classes=9, radius=1.5)
    assert (got.labels[0] == 9).all()
    assert not got.distances[0].any()
    assert not got.centerness[0].any()
    assert (got.labels[1] == 0).any()


def test_centerness_by_hand() -> None:
    distances = torch.tensor([[2.0, 2, 2, 2], [1, 2, 4, 2], [1, 1, 4, 9]])
    assert centerness(distances).tolist() == pytest.approx([1, 0.5, (1 / 36) ** 0.5])


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 12), st.integers(1, 12), st.integers(0, 999))
def test_centroids_are_scipys_centres_of_mass(n: int, height: int, width: int, seed: int) -> None:
    masks = np.random.default_rng(seed).random((n, height, width)) < 0.4
    masks[:, seed % height, seed % width] = True
    target = Targets(
        image_id=0,
        boxes=torch.zeros(n, 4),
        labels=torch.zeros(n, dtype=torch.int64),
        masks=torch.from_numpy(masks.astype(np.uint8)),
        semantic=torch.zeros(height, width, dtype=torch.uint8),
    )
    expected = [ndimage.center_of_mass(mask)[::-1] for mask in masks]
    np.testing.assert_allclose(mask_centroids(target), expected, rtol=1e-5, atol=1e-5)


def test_the_centroid_of_an_empty_mask_is_the_origin(make_targets: Callable[..., Targets]) -> None:
    target = make_targets((96, 128), [(8, 8, 40, 40), (60, 60, 80, 80)])
    target.masks[1] = 0
    assert mask_centroids(target).tolist() == [[23.5, 23.5], [0, 0]]
    assert mask_centroids(make_targets((96, 128), [])).shape == (0, 2)


def test_mixed_precision_does_not_move_centroids(make_targets: Callable[..., Targets]) -> None:
    target = make_targets((800, 1300), [(701, 1, 1301, 801)])  # its moments do not fit float16
    for dtype in (torch.float16, torch.bfloat16):
        with torch.autocast("cpu", dtype=dtype):
            assert mask_centroids(target).tolist() == [[1000.0, 400.0]]


def test_sampling_can_be_around_mask_centroids(make_targets: Callable[..., Targets]) -> None:
    """An L, whose box has its centre at (24, 24) and whose centroid is at (14.4, 32.6)."""
    target = make_targets((96, 128), [(0, 0, 48, 48)])
    target.masks[0, :40, 8:] = 0  # a column and a row of 8 pixels are left

    def positives(**options: Callable[[Targets], torch.Tensor]) -> list[list[float]]:
        got = assign(points(), STRIDES, INTEREST, [target], num_classes=1, radius=0.65, **options)
        return torch.cat(points())[got.labels[0] == 0].tolist()

    # At stride 16, within 10.4 pixels; the object is too large for stride 8, too small for 32.
    assert positives() == positives(centres=box_centres) == [[24, 24]]
    assert positives(centres=mask_centroids) == [[8, 24], [24, 24], [8, 40], [24, 40]]
