"""From a data spec to images on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import masks_to_boxes

from b2inst.data import SCENE_CLASSES, DataError, check_coco, make_scene, write_scenes
from b2inst.evaluation import evaluate
from b2inst.experiments.runs.datasets import (
    GROUPS,
    load_split,
    prepare,
    training_set,
    write_example,
)
from b2inst.experiments.specs.data_spec import CocoData, ScenesData, coco_folder
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.run_spec import Augmentation, RunSpec


def test_scenes_are_written_once(spec: RunSpec, tmp_path: Path) -> None:
    data = prepare(spec.data, tmp_path)
    assert isinstance(data, ScenesData)
    counts = {split: len(load_split(data, split, tmp_path)) for split in ("train", "val", "test")}
    assert counts == {"train": 4, "val": 2, "test": 3}
    file = tmp_path / data.name / "annotations/instances_train.json"
    written = file.stat().st_mtime_ns
    assert prepare(spec.data, tmp_path) == data
    assert file.stat().st_mtime_ns == written


def test_scenes_of_another_version_cannot_be_made(spec: RunSpec, tmp_path: Path) -> None:
    old = spec.data.model_copy(update={"version": "scenes-v0"})
    with pytest.raises(SpecError, match="these scenes are scenes-v0, but this package generates"):
        prepare(old, tmp_path)


def test_training_images_vary_as_the_spec_says(spec: RunSpec, tmp_path: Path) -> None:
    data = prepare(spec.data, tmp_path)
    index = load_split(data, "train", tmp_path)
    augmentation = spec.augmentation.model_copy(update={"shorter": (32, 64), "longer_max": 64})
    dataset = training_set(index, augmentation)
    sizes = {tuple(dataset[0][0].shape) for _ in range(30)}
    assert sizes == {(3, 32, 32), (3, 64, 64)}


def test_training_images_may_be_crops_at_their_own_scale(spec: RunSpec, tmp_path: Path) -> None:
    data = prepare(spec.data, tmp_path)
    index = load_split(data, "train", tmp_path)
    augmentation = Augmentation(crop=20, horizontal_flip=0)
    image, targets = training_set(index, augmentation)[0]
    assert image.shape == (3, 20, 20)
    boxes = masks_to_boxes(targets.masks) + torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert torch.equal(targets.boxes, boxes)
    whole = np.asarray(Image.open(index.images[0].path))
    windows = np.lib.stride_tricks.sliding_window_view(whole, (20, 20), axis=(0, 1))
    assert (windows == image.numpy()).all(axis=(2, 3, 4)).any()


def test_missing_data_say_where_to_get_them(tmp_path: Path) -> None:
    data = CocoData(root=tmp_path / "nuclei", obtain="make them with: a command")
    with pytest.raises(DataError, match=r"nuclei: no such folder; make them with: a command$"):
        prepare(data, tmp_path)


def test_a_model_of_one_size_is_trained_at_that(spec: RunSpec, tmp_path: Path) -> None:
    data = prepare(spec.data, tmp_path)
    index = load_split(data, "train", tmp_path)
    dataset = training_set(index, spec.augmentation, fixed_size=(40, 40))
    image, targets = dataset[0]
    assert image.shape == (3, 40, 40)
    assert targets.masks.shape[1:] == targets.semantic.shape == (40, 40)


@pytest.fixture
def spoilt(tmp_path: Path) -> Path:
    """A COCO-format folder; of val, one annotation is bad and one image is cut off."""
    for seed, split in enumerate(("train", "val")):
        write_scenes(tmp_path, split=split, images=3, size=32, seed=seed)
    file = tmp_path / "annotations/instances_val.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["category_id"] = 99
    file.write_text(json.dumps(content))
    image = tmp_path / "val/000002.png"
    image.write_bytes(image.read_bytes()[:100])
    return tmp_path


def test_bad_data_stop_or_are_left_out(spoilt: Path) -> None:
    with pytest.raises(DataError, match=r"99.*--skip-bad"):
        load_split(coco_folder(spoilt), "val", spoilt)
    index = load_split(coco_folder(spoilt, skip_bad=True), "val", spoilt)
    assert len(index) == 2
    assert len(index.skipped) == 2


def test_what_was_read_can_be_evaluated_on(spoilt: Path) -> None:
    index = load_split(coco_folder(spoilt, skip_bad=True), "val", spoilt)
    truth = index.to_coco()
    assert len(truth["images"]) == 2
    assert len(truth["annotations"]) == sum(map(len, index.annotations.values()))
    perfect = [
        {key: a[key] for key in ("image_id", "category_id", "segmentation", "bbox")} | {"score": 1}
        for a in truth["annotations"]
    ]
    assert evaluate(perfect, index)["AP"] == pytest.approx(100)


def test_images_are_held_out_of_one_split(spoilt: Path) -> None:
    (spoilt / "annotations/instances_val.json").unlink()
    with pytest.raises(SpecError, match=r"only split is 'train'.*--val-fraction 0\.2"):
        coco_folder(spoilt)
    data = coco_folder(spoilt, val_fraction=0.34)
    parts = [{i.id for i in load_split(data, part, spoilt).images} for part in ("train", "val")]
    assert [len(part) for part in parts] == [2, 1]
    assert not parts[0] & parts[1]
    write_scenes(spoilt, split="test", images=3, size=48, seed=5)
    tested = data.model_copy(update={"test": "test"})
    assert len(load_split(tested, "test", spoilt)) == 3  # all of them
    assert data.split_label("train") != data.split_label("val")
    assert data.identified().identity() != coco_folder(spoilt, val="train").identified().identity()


def test_a_split_of_crowds_only_has_nothing_to_learn(spoilt: Path) -> None:
    file = spoilt / "annotations/instances_train.json"
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"have iscrowd 1.*--crowds-as-instances"):
        load_split(coco_folder(spoilt), "train", spoilt)
    data = coco_folder(spoilt, crowds_as_instances=True)
    assert len(list(load_split(data, "train", spoilt).annotated().images)) == 3


def test_each_class_of_the_scenes_is_in_one_group() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(SCENE_CLASSES)


def test_the_example_is_sound_and_holds_the_scenes_objects(tmp_path: Path) -> None:
    root = write_example(tmp_path / "example")
    report = check_coco(root)
    assert report.ok
    assert sum(len(split) for split in report.splits) == 20
    assert list(report.splits[0].class_names) == list(GROUPS)
    content = json.loads((root / "annotations/instances_val.json").read_text())
    group_of = {old: i for i, names in enumerate(GROUPS.values(), 1) for old in names}
    scenes = [make_scene((104, i), 96) for i in range(10)]
    expected = [group_of[SCENE_CLASSES[label]] for scene in scenes for label in scene.labels]
    assert [a["category_id"] for a in content["annotations"]] == expected


def test_a_second_call_changes_nothing(tmp_path: Path) -> None:
    write_example(tmp_path)
    file = tmp_path / "annotations" / "instances_train.json"
    before = file.read_bytes()
    file.touch()
    stamp = file.stat().st_mtime_ns
    write_example(tmp_path)
    assert file.read_bytes() == before
    assert file.stat().st_mtime_ns == stamp
