from __future__ import annotations

import json
from pathlib import Path

from b2inst.data import SCENE_CLASSES, check_coco, make_scene
from b2inst.experiments.runs.example_data import GROUPS, write_example


def test_each_class_of_the_scenes_is_in_one_group() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(SCENE_CLASSES)


def test_the_example_is_sound_and_holds_the_scenes_objects(tmp_path: Path) -> None:
    root = write_example(tmp_path / "example", images=3, size=48)
    report = check_coco(root)
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
