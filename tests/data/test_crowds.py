"""Crowd regions that look like single objects are told, with the way to read them."""

from __future__ import annotations

from typing import Any

import pytest

from b2inst.data import CocoIndex, check_coco

from .conftest import CONTENT

POLYGON = [[2, 3, 10, 3, 10, 13, 2, 13]]
RUN_LENGTHS = {"size": [20, 30], "counts": [43, *[10] * 15, 407]}  # the same pixels


def load(*annotations: tuple[int, Any, int], **options: bool) -> CocoIndex:
    """Annotations as (category, segmentation, iscrowd)."""
    entries = [
        {"id": k, "image_id": 7, "category_id": c, "segmentation": s, "iscrowd": crowd, "area": 80,
         "bbox": [2, 3, 8, 10]}
        for k, (c, s, crowd) in enumerate(annotations)
    ]  # fmt: skip
    return CocoIndex.load(CONTENT | {"annotations": entries}, **options)


def test_coco_itself_is_not_suspected() -> None:
    index = load(*[(44, POLYGON, 0)] * 30, (44, RUN_LENGTHS, 1))
    assert index.notes == []


def test_a_class_of_crowds_only() -> None:
    index = load((44, POLYGON, 0), (2, POLYGON, 1), (2, POLYGON, 1))
    (note,) = index.notes
    assert "all annotations of class 'dog' (2) have iscrowd 1" in note
    assert "--crowds-as-instances" in note


def test_an_exporter_that_marks_run_lengths() -> None:
    index = load(
        *[(44, POLYGON, 0)] * 3, (90, POLYGON, 0), (44, RUN_LENGTHS, 1), (90, RUN_LENGTHS, 1)
    )
    (note,) = index.notes
    assert "2 of 6 annotations have iscrowd 1, all run lengths and no polygon" in note
    assert "(vase 1, kite 1)" in note
    mixed = load(*[(44, POLYGON, 0)] * 3, (44, RUN_LENGTHS, 0), (44, RUN_LENGTHS, 1))
    assert mixed.notes == []


def test_they_can_be_read_as_instances() -> None:
    found = [(44, POLYGON, 0), (2, RUN_LENGTHS, 1)]
    assert [a.crowd for a in load(*found).all_annotations()] == [False, True]
    index = load(*found, crowds_as_instances=True)
    assert [a.crowd for a in index.all_annotations()] == [False, False]
    assert index.notes == []


@pytest.mark.parametrize("empty", ["crowds", "annotations", "images"])
def test_a_split_without_instances_is_not_ok(empty: str, content, write) -> None:
    if empty == "crowds":
        for annotation in content["annotations"]:
            annotation["iscrowd"] = 1
    else:
        content["annotations"] = []
    if empty == "images":
        content["images"] = []
    file, folder = write(content)
    report = check_coco(split=f"{file}:{folder}")
    expected = {
        "crowds": "no instances, since all annotations have iscrowd 1",
        "annotations": "without any instance",
        "images": "no images",
    }
    assert [expected[empty] in problem for problem in report.problems] == [True]
