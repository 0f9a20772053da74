"""What data are, and what they are not: a place."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from b2inst.data import DataError, write_scenes
from b2inst.experiments.specs.data_spec import CocoData, ScenesData, coco_folder
from b2inst.experiments.specs.errors import SpecError
from b2inst.experiments.specs.run_spec import RunSpec


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A COCO-format folder with splits train and val."""
    for seed, split in enumerate(("train", "val")):
        write_scenes(tmp_path / "coco", split=split, images=2, size=32, seed=seed)
    return tmp_path / "coco"


def _scenes(spec: RunSpec) -> ScenesData:
    assert isinstance(spec.data, ScenesData)
    return spec.data


def test_scenes_of_different_specs_lie_in_different_folders(spec: RunSpec) -> None:
    data = _scenes(spec)
    other = data.model_copy(update={"size": 64})
    rebinned = data.model_copy(update={"area_bounds": (1.0, 2.0)})
    assert len({data.name, other.name, rebinned.name}) == 2
    assert data.identity() == rebinned.identity() != other.identity()


def test_report_is_on_test_scenes_and_on_coco_val(spec: RunSpec, folder: Path) -> None:
    assert spec.data.report_split == "test"
    coco = coco_folder(folder)
    assert (coco.report_split, coco.split_label("val")) == ("val", "val")
    with pytest.raises(SpecError, match="--split val"):
        coco.files("test")


def test_a_test_split_is_reported_on_and_part_of_the_identity(folder: Path) -> None:
    write_scenes(folder, split="test", images=2, size=32, seed=3)
    plain = coco_folder(folder).identified()
    data = coco_folder(folder).model_copy(update={"test": "test"}).identified()
    assert (data.report_split, data.tuning_split("test")) == ("test", "val")
    assert data.tuning_split("val") is None
    assert data.files("test")[1] == folder / "test"
    assert list(data.sha256) == ["train", "val", "test"]
    assert data.identity() != plain.identity()
    band = data.model_copy(update={"boundary_pixels": 3})
    assert band.identity() == data.identity()  # how it is measured


def test_identity_is_the_content_not_the_place(folder: Path, tmp_path: Path) -> None:
    here = coco_folder(folder).identified()
    shutil.copytree(folder, tmp_path / "moved")
    moved = coco_folder(tmp_path / "moved").identified()
    file = folder / "annotations/instances_train.json"
    assert here.sha256["train"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert here.identity() == moved.identity()

    content = json.loads(file.read_text())
    content["annotations"].pop()
    (tmp_path / "moved/annotations/instances_train.json").write_text(json.dumps(content))
    assert coco_folder(tmp_path / "moved").identified().identity() != here.identity()


def test_skip_bad_is_part_of_the_identity(folder: Path) -> None:
    data = coco_folder(folder).identified()
    assert coco_folder(folder, skip_bad=True).identified().identity() != data.identity()


def test_splits_are_found_by_their_usual_names(folder: Path) -> None:
    data = coco_folder(folder)
    assert (data.train, data.val) == ("train", "val")
    assert data.files("train") == (folder / "annotations/instances_train.json", folder / "train")


def test_splits_of_other_names_must_be_named(folder: Path) -> None:
    (folder / "annotations/instances_val.json").rename(folder / "annotations/instances_a.json")
    with pytest.raises(SpecError, match=r"which split is for val\? It has a, train.*--val-split"):
        coco_folder(folder)
    assert coco_folder(folder, val="a").val == "a"


def test_evaluating_on_the_training_images_is_told(folder: Path) -> None:
    with pytest.warns(UserWarning, match="training and validation images are the same"):
        coco_folder(folder, train="val")


def test_other_layouts_by_explicit_paths(folder: Path) -> None:
    text = f"{folder}/annotations/instances_val.json:{folder}/val"
    data = coco_folder(folder, train=text, val=text)
    assert data.split_label("train") == "train"
    assert data.files("train") == (folder / "annotations/instances_val.json", folder / "val")
    assert data.identified().sha256["train"] == data.identified().sha256["val"]
    assert CocoData(train=text, val=text).files("val") == data.files("val")  # needs no folder


def test_evaluating_needs_no_split_to_train_on(folder: Path) -> None:
    (folder / "annotations/instances_train.json").unlink()
    data = coco_folder(folder, val="val", training=False)
    assert data.files("val") == (folder / "annotations/instances_val.json", folder / "val")
    for split in ("train", "val"):
        shutil.rmtree(folder / split)
    annotations, _ = data.files("val", with_images=False)
    assert annotations == folder / "annotations/instances_val.json"
    with pytest.raises(DataError, match="no such folder"):
        data.files("val")


def test_missing_folder_and_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        coco_folder(tmp_path / "nowhere")
    with pytest.raises(SpecError, match="--data DIR"):
        CocoData().files("val")
    with pytest.raises(DataError, match="no COCO-format annotations"):
        CocoData(root=tmp_path).identified()
