from __future__ import annotations

import json
from pathlib import Path

import pytest

from b2inst.data import SCENE_CLASSES, check_coco, make_scene
from b2inst.experiments.runs.example_data import GROUPS, regrouped, write_example

CONTENT = {
    "info": {"year": 2026},
    "images": [{"id": 1}],
    "annotations": [
        {"id": 1, "category_id": 30, "area": 5},
        {"id": 2, "category_id": 10, "area": 6},
        {"id": 3, "category_id": 20, "area": 7},
    ],
    "categories": [
        {"id": 10, "name": "cat"},
        {"id": 20, "name": "bus"},
        {"id": 30, "name": "dog"},
    ],
}


def test_objects_go_to_their_group_and_others_are_left_out() -> None:
    made = regrouped(CONTENT, {"vehicle": ("bus",), "dog or cat": ("cat", "dog")})
    assert made["categories"] == [{"id": 1, "name": "vehicle"}, {"id": 2, "name": "dog or cat"}]
    assert [(a["id"], a["category_id"]) for a in made["annotations"]] == [(1, 2), (2, 2), (3, 1)]
    fewer = regrouped(CONTENT, {"pet": ("dog",)})
    assert fewer["annotations"] == [{"id": 1, "category_id": 1, "area": 5}]
    assert made["info"] == fewer["info"] == CONTENT["info"]
    assert CONTENT["annotations"][0]["category_id"] == 30  # type: ignore[index]


def test_a_class_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="'cow'"):
        regrouped(CONTENT, {"pet": ("cow",)})


def test_each_class_of_the_scenes_is_in_one_group() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(SCENE_CLASSES)


def test_the_example_is_sound_and_holds_the_scenes_objects(tmp_path: Path) -> None:
    root = write_example(tmp_path / "example", images=3, size=48)
    report = check_coco(root, progress=False)
    assert report.ok
    assert sum(len(split) for split in report.splits) == 6
    assert list(report.splits[0].class_names) == list(GROUPS)
    content = json.loads((root / "annotations/instances_val.json").read_text())
    group_of = {old: i for i, names in enumerate(GROUPS.values(), 1) for old in names}
    scenes = [make_scene((104, i), 48) for i in range(3)]
    expected = [group_of[SCENE_CLASSES[label]] for scene in scenes for label in scene.labels]
    assert [a["category_id"] for a in content["annotations"]] == expected


def test_a_second_call_changes_nothing(tmp_path: Path) -> None:
    write_example(tmp_path, images=2, size=48)
    file = tmp_path / "annotations" / "instances_train.json"
    before = file.read_bytes()
    file.touch()
    stamp = file.stat().st_mtime_ns
    write_example(tmp_path, images=2, size=48)
    assert file.read_bytes() == before
    assert file.stat().st_mtime_ns == stamp
