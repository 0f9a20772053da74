"""Touching objects against SciPy's distances; their AP against an evaluator that ignores others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from scipy import ndimage

from b2inst.evaluation import EvaluationError, Prediction, evaluate, resample_ap
from b2inst.evaluation.ground_truth import load_ground_truth, touching, touching_and_isolated

from .conftest import SIZE, annotation, dataset, ellipse, prediction, random_pair

AREAS = {"small": (0, 200), "medium": (200, 700), "large": (700, 1e10)}


def box(left: int, top: int, side: int = 8) -> np.ndarray:
    mask = np.zeros(SIZE, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def close(masks: list[np.ndarray]) -> set[int]:
    """Numbers from 1 of the masks with another one in a chessboard distance of 2."""
    away = [ndimage.distance_transform_cdt(~mask, metric="chessboard") for mask in masks]
    return {
        i + 1
        for i, mask in enumerate(masks)
        if any((away[j][mask] <= 2).any() for j in range(len(masks)) if j != i)
    }


@pytest.mark.parametrize(
    ("left", "top", "touch"),
    [
        (15, 10, True),  # overlap by a column
        (18, 10, True),  # side by side
        (18, 18, True),  # corner to corner
        (19, 10, True),  # a column between
        (19, 19, True),  # a diagonal pixel between
        (19, 20, False),
        (20, 10, False),
    ],
)
def test_two_squares(left: int, top: int, touch: bool) -> None:
    annotations = [annotation(1, 10, 2, box(10, 10)), annotation(2, 10, 7, box(left, top))]
    assert touching(dataset(annotations, images=1)) == ({1, 2} if touch else set())


def test_crowds_and_other_images_are_not_touched() -> None:
    annotations = [annotation(1, 10, 2, box(10, 10)), annotation(2, 11, 2, box(10, 10))]
    annotations.append(annotation(3, 10, 2, box(12, 10), iscrowd=1))
    assert touching(dataset(annotations, images=2)) == set()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_equals_distances_between_all_pairs(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    masks = [ellipse(generator) for _ in range(count)]
    truth = dataset([annotation(i + 1, 10, 2, m) for i, m in enumerate(masks)], images=1)
    assert touching(truth) == close(masks)


def groups_of(truth: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Ground truth for each group, the other annotations of an image and category as a crowd."""
    parts: dict[str, list[dict[str, Any]]] = {"touching_": [], "isolated_": []}
    for image in truth["images"]:
        own = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        masks = {a["id"]: coco_mask.decode(a["segmentation"]).astype(bool) for a in own}
        objects = [a["id"] for a in own if not a["iscrowd"]]
        ids = {objects[i - 1] for i in close([masks[number] for number in objects])}
        for group, chosen in (("touching_", ids), ("isolated_", set(objects) - ids)):
            parts[group] += [a for a in own if a["id"] in chosen]
            for category in (2, 3, 7):
                rest = [a["id"] for a in own if a["category_id"] == category]
                rest = [number for number in rest if number not in chosen]
                if rest:
                    region = np.any([masks[number] for number in rest], axis=0)
                    parts[group].append(
                        annotation(rest[0], image["id"], category, region, iscrowd=1)
                    )
    return {group: truth | {"annotations": found} for group, found in parts.items()}


@pytest.mark.parametrize("seed", range(2))
def test_ap_of_each_group_is_that_with_the_others_as_crowds(seed: int) -> None:
    truth, predictions = random_pair(seed)
    metrics = evaluate(predictions, truth, area_ranges=AREAS, groups=True)
    resampled = resample_ap(
        predictions, truth, metrics=list(metrics), resamples=1, area_ranges=AREAS
    )
    for group, part in groups_of(truth).items():
        expected = evaluate(predictions, part, area_ranges=AREAS)
        names = [name for name in expected if not name.startswith("box_")]
        assert len([n for n in metrics if n.startswith(group)]) == len(names) == 12
        for name in names:
            value = metrics[group + name]
            assert value == expected[name]
            assert resampled[group + name][0] == pytest.approx(
                np.nan if value is None else value, nan_ok=True
            )
        assert 0 < (metrics[f"{group}AP"] or 0) < 100
    assert evaluate(predictions, truth, area_ranges=AREAS).items() <= metrics.items()


def test_a_merged_pair_counts_against_the_touching_alone() -> None:
    masks = [box(10, 10), box(18, 10), box(60, 10)]
    truth = dataset([annotation(i + 1, 10, 2, m) for i, m in enumerate(masks)], images=1)
    found: list[Prediction] = [
        prediction(10, 2, masks[0] | masks[1], 0.9),
        prediction(10, 2, masks[2], 0.8),
    ]
    metrics = evaluate(found, truth, groups=True)
    assert metrics["isolated_AP"] == metrics["isolated_boundary_AP"] == 100
    # Its IoU with either is 0.5: found at the first of ten thresholds, one of two.
    assert metrics["touching_AP50"] == pytest.approx(100 * 51 / 101)
    assert metrics["touching_AP"] == pytest.approx(10 * 51 / 101)


def test_a_group_without_objects_has_no_ap() -> None:
    truth = dataset([annotation(1, 10, 2, box(10, 10))], images=1)
    found = [prediction(10, 2, box(10, 10), 0.9)]
    metrics = evaluate(found, truth, groups=True)
    assert (metrics["touching_AP"], metrics["isolated_AP"]) == (None, 100)
    assert np.isnan(
        resample_ap(found, truth, metrics=["touching_AP"], resamples=2)["touching_AP"]
    ).all()
    with pytest.raises(EvaluationError, match="unknown metric 'touching_box_AP'"):
        resample_ap(found, truth, metrics=["touching_box_AP"])


def test_the_ground_truth_itself_does_not_change() -> None:
    truth = load_ground_truth(random_pair(0)[0])
    before = [dict(found) for found in truth.dataset["annotations"]]
    ids = touching(truth)
    part = touching_and_isolated(truth)["touching_"]
    assert truth.dataset["annotations"] == before
    assert {n for n, found in part.anns.items() if not found["iscrowd"]} == ids
    assert all(part.anns[number]["area"] == truth.anns[number]["area"] for number in ids)
