from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from b2inst.data import CocoIndex, DataError, check_coco, verify_images, write_scenes


def test_report_of_sound_data(content, write, tmp_path: Path) -> None:
    write(content)
    report = check_coco(tmp_path)
    assert report.ok
    assert str(report).splitlines()[1:5] == [
        "  3 images with sides of 20–30 pixels, 1 of them without instances",
        "  2 instances and 1 crowd region",
        "  instance area 80–80 pixels, median 80: 2 small, 0 medium, 0 large",
        "  3 classes: vase 1, kite 1",
    ]
    assert str(report).endswith("\nnote: classes without instances: 1 (dog)\nok")


def test_all_splits_are_checked(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "val")):
        write_scenes(tmp_path, split=split, images=2, size=32, seed=seed)
    report = check_coco(tmp_path)
    assert report.ok
    assert [len(split) for split in report.splits] == [2, 2]
    assert len(check_coco(tmp_path, split="val").splits) == 1
    (tmp_path / "val" / "000001.png").unlink()
    assert "000001.png" in check_coco(tmp_path).problems[0]


def test_an_image_of_another_size_precedes_what_follows_from_it(tmp_path: Path) -> None:
    path = write_scenes(tmp_path, split="train", images=2, size=96, seed=0)
    content = json.loads(path.read_text())
    content["images"][0]["width"] = 40
    path.write_text(json.dumps(content))
    first, *others = check_coco(tmp_path).problems
    assert "is 96×96 but its annotations say 40×96" in first
    assert others


def test_images_are_read_to_their_end(content, write) -> None:
    annotation_file, image_dir = write(content)
    data = (image_dir / "b.png").read_bytes()
    (image_dir / "b.png").write_bytes(data[: len(data) // 2])
    Image.new("RGB", (20, 30)).save(image_dir / "c.png")
    report = check_coco(split=f"{annotation_file}:{image_dir}")
    assert not report.ok
    assert len(report.problems) == 2
    assert "b.png: unreadable image" in report.problems[0]
    assert "c.png: the upright image is 20×30 but its annotations say 30×20" in report.problems[1]

    index = CocoIndex.load(annotation_file, image_dir)
    with pytest.raises(DataError, match=r"b.png: unreadable image .*; replace it$"):
        verify_images(index)
    left = verify_images(index, skip_bad=True)
    assert [image.id for image in left.images] == [7]
    assert left.skipped == report.problems
    assert not any("--skip-bad" in line for line in left.skipped)  # which was given


def test_verified_images_are_left_alone(content, write) -> None:
    index = CocoIndex.load(*write(content))
    assert verify_images(index) is index


def test_ctrl_c_does_not_wait_for_the_other_images(
    content, write, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = CocoIndex.load(*write(content))
    many = replace(index, images=index.images * 2000)
    pressed = threading.Event()
    seen = []

    def read(path: Path) -> tuple[int, int]:
        seen.append(path)
        if len(seen) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        pressed.wait(0.01)
        return 20, 30

    monkeypatch.setattr("b2inst.data.check.probe_image", read)
    with pytest.raises(KeyboardInterrupt):
        verify_images(many)
    assert len(seen) < len(many)


def test_nothing_to_check(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no COCO-format annotations; known are"):
        check_coco(tmp_path)


def test_coco_is_sound(coco_tiny: Path) -> None:
    report = check_coco(coco_tiny, split="val2017")
    assert report.ok, report.problems
    assert sum(a.crowd for a in report.splits[0].all_annotations()) == 11


def test_classes_without_instances_are_told(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "val")):
        file = write_scenes(tmp_path, split=split, images=2, size=32, seed=seed)
        content = json.loads(file.read_text())
        found = zip(content["annotations"], (1, 2) if split == "train" else (1, 1), strict=False)
        content["annotations"] = [annotation | {"category_id": k} for annotation, k in found]
        content["categories"] = [{"id": k, "name": f"c{k}"} for k in range(1, 10)]
        file.write_text(json.dumps(content))
    assert str(check_coco(tmp_path)).splitlines()[-3:] == [
        "note: classes without instances in annotations/instances_val.json: 1 (c2)",
        "note: classes without instances: 7 (c3, c4, c5, c6, c7, …)",
        "ok",
    ]


def test_classes_of_one_name_are_counted_apart(content, write) -> None:
    content["categories"][0]["name"] = "kite"
    file, folder = write(content)
    report = check_coco(split=f"{file}:{folder}")
    assert "kite (id 44) 1, kite (id 90) 1" in str(report)
    assert "'kite', ids 44 and 90" in report.splits[0].notes[0]


def test_splits_of_other_categories_are_a_problem(tmp_path: Path) -> None:
    for split in ("train", "val"):
        file = write_scenes(tmp_path, split=split, images=2, size=32, seed=0)
    content = json.loads(file.read_text())
    content["categories"].reverse()
    file.write_text(json.dumps(content))
    assert check_coco(tmp_path).ok  # the order in the file does not matter
    names = [category["name"] for category in content["categories"]]
    for category, name in zip(content["categories"], [names[1], names[0], *names[2:]], strict=True):
        category["name"] = name
    file.write_text(json.dumps(content))
    report = check_coco(tmp_path)
    assert not report.ok
    assert "other categories than" in str(report)
