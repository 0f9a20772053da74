from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from b2inst.data import CocoIndex, DataError, hold_out


def index_of(labels: list[set[int]]) -> CocoIndex:
    """Images that have one object of each of these classes."""
    annotations: list[dict[str, Any]] = []
    for image, found in enumerate(labels):
        for label in sorted(found):
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": image,
                    "category_id": label,
                    "segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]],
                }
            )
    images = [
        {"id": i, "file_name": f"{i}.png", "height": 10, "width": 10} for i in range(len(labels))
    ]
    categories = [{"id": i, "name": str(i)} for i in range(max({3}.union(*labels)) + 1)]
    return CocoIndex.load({"images": images, "annotations": annotations, "categories": categories})


@given(
    st.lists(st.sets(st.integers(0, 3)), min_size=2, max_size=60),
    st.floats(0.01, 0.9),
)
def test_a_partition_of_the_right_size(labels: list[set[int]], fraction: float) -> None:
    index = index_of(labels)
    train, val = hold_out(index, fraction)
    ids = sorted(i.id for part in (train, val) for i in part.images)
    assert ids == list(range(len(labels)))
    assert len(val) == min(max(round(fraction * len(labels)), 1), len(labels) - 1)
    again, _ = hold_out(index_of(labels), fraction)
    assert again.images == train.images
    if sum(map(bool, labels)) > 1:
        assert len(train.annotated())
        assert len(val.annotated())


def test_classes_keep_their_proportion() -> None:
    generator = np.random.default_rng(0)
    shares = (0.6, 0.3, 0.1, 0.04)
    labels = [{k for k, p in enumerate(shares) if generator.random() < p} for _ in range(500)]
    _, val = hold_out(index_of(labels), 0.2)
    counts = Counter(a.label for a in val.all_annotations())
    for label in range(4):
        total = sum(label in found for found in labels)
        assert abs(counts[label] - 0.2 * total) <= 2
    assert abs(len(val) - len(val.annotated()) - 0.2 * labels.count(set())) <= 2


@pytest.mark.parametrize(
    ("classes", "of_each", "empty", "fraction", "expected"),
    [(20, 4, 20, 0.1, (8, 2)), (10, 2, 80, 0.2, (4, 16)), (10, 4, 20, 0.1, (4, 2))],
)
def test_images_without_objects_take_their_share_only(
    classes: int, of_each: int, empty: int, fraction: float, expected: tuple[int, int]
) -> None:
    """Also where each class is too rare to have an image held out by rounding."""
    labels = [{k} for k in range(classes) for _ in range(of_each)] + [set() for _ in range(empty)]
    _, val = hold_out(index_of(labels), fraction)
    assert (len(val.annotated()), len(val) - len(val.annotated())) == expected


def test_a_file_that_is_several_images_stays_whole() -> None:
    """Label Studio lists an image once for each of its annotators."""
    index = index_of([{0}, {1}] * 10)
    images = [replace(image, path=Path(f"{image.id // 2}.png")) for image in index.images]
    parts = hold_out(replace(index, images=images), 0.3)
    train, val = ({image.path for image in part.images} for part in parts)
    assert not train & val
    assert (len(train), len(val)) == (7, 3)
    assert sum(map(len, parts)) == 20


def test_one_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match="1 image cannot be split"):
        hold_out(index_of([{0}]), 0.2)
