"""Files as other tools write them, by the commands that users give; see B2INST_FILES."""

from __future__ import annotations

import filecmp
import json
import os
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from typer.testing import CliRunner, Result

import b2inst
from b2inst.cli import app
from b2inst.data import CocoDataset, CocoIndex, find_split, read_image, train_transforms
from b2inst.evaluation import evaluate
from b2inst.evaluation.ground_truth import load_ground_truth
from b2inst.evaluation.results import read_results

#: Pixels of the seven objects that the exporters were given, by definition of the corpus.
OBJECTS = [1026, 1644, 1200, 638, 1257, 384, 255]


@pytest.fixture
def case(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request) -> Path:
    """A copy of one folder of the corpus as the current folder."""
    shutil.copytree(files / "_weights", tmp_path / "_weights")
    folder = tmp_path / request.param
    shutil.copytree(files / request.param, folder)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    monkeypatch.chdir(folder)
    return folder


def of(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", names, indirect=True)


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def areas(folder: Path, **options: bool) -> list[int]:
    """Pixels of the instances of split train, as training sees them."""
    index = CocoIndex.load(*find_split(folder, "train"), **options)
    dataset = CocoDataset(index, lambda image, shapes: (image, shapes))
    counts = [int(m.sum()) for i in range(len(index)) for m in dataset[i][1].masks]
    evaluated = [a for a in load_ground_truth(index).anns.values() if not a["iscrowd"]]
    assert len(evaluated) == len(counts)
    return counts


@of("datumaro_default")
def test_datumaro(case: Path) -> None:
    checked = call("data", "check", ".")
    assert checked.exit_code == 1
    assert "all annotations have iscrowd 1" in checked.output
    trained = call("train", "b2inst-blendmask-tiny", "--data", ".", "--train-split", "train",
                   "--val-split", "train")  # fmt: skip
    assert trained.exit_code == 1
    assert "all annotations have iscrowd 1" in trained.output
    assert call("data", "check", ".", "--crowds-as-instances").exit_code == 0
    assert areas(case, crowds_as_instances=True) == OBJECTS


@of("supervision_default")
def test_supervision(case: Path) -> None:
    output = call("data", "check", ".").output
    assert "all annotations of class 'cat' (3) have iscrowd 1" in output
    assert "4 of 7 annotations have iscrowd 1, all run lengths and no polygon" in output
    assert "(cat 3, dog 1)" in output
    # Three of the seven are polygons, whose pixels are fewer by half of their outline.
    truth = json.loads((case / "annotations/instances_train.json").read_text())["annotations"]
    sizes = {1: (120, 160), 2: (96, 128)}
    expected = list(OBJECTS)
    for k, annotation in enumerate(truth):
        if isinstance(annotation["segmentation"], list):
            expected[k] = _drawn(annotation["segmentation"], sizes[annotation["image_id"]])
    assert areas(case, crowds_as_instances=True) == expected


def _drawn(polygons: list[list[float]], size: tuple[int, int]) -> int:
    """Pixels of polygons, by pycocotools alone."""
    return int(coco_mask.area(coco_mask.merge(coco_mask.frPyObjects(polygons, *size))))


@of("supervision_tiny")
def test_supervision_of_small_objects(case: Path) -> None:
    checked = call("data", "check", "--split", "sv_tiny.json:images")
    assert checked.exit_code == 1
    assert checked.output.count("has no polygon of at least 3 points") == 3
    content = json.loads((case / "sv_tiny.json").read_text())
    line = {"size": [120, 160], "counts": [1000, 20, 120 * 160 - 1020]}
    content["annotations"] = [
        content["annotations"][2] | {"segmentation": line, "bbox": [8, 40, 0, 19], "area": 20}
    ]
    (case / "sv_tiny.json").write_text(json.dumps(content))
    assert call("data", "check", ".").exit_code == 0


@of("imantics_two_point_piece", "kwcoco_no_iscrowd_area")
def test_nothing_is_lost(case: Path) -> None:
    checked = call("data", "check", ".")
    assert checked.exit_code == 0
    truth = json.loads((case / "annotations/instances_train.json").read_text())["annotations"]
    crowds = [a.get("iscrowd", 0) for a in truth]
    if "kwcoco" in case.name:
        assert areas(case) == [n for n, crowd in zip(OBJECTS, crowds, strict=True) if not crowd]
        assert "annotations without iscrowd, read as 0: 6" in checked.output
        assert "annotations with no area (counted from the mask): 7" in checked.output
    else:
        assert len(areas(case)) == 7
        assert (
            "polygons of fewer than 3 points (left out: they cover no pixel): 1" in checked.output
        )


@of("kwcoco_exterior_interiors")
def test_exteriors_and_interiors(case: Path) -> None:
    assert call("data", "check", ".").exit_code == 0
    truth = json.loads((case / "annotations/instances_train.json").read_text())["annotations"]
    (ring,) = truth[1]["segmentation"]
    outer, inner = (
        _drawn([np.ravel(points).astype(float).tolist()], (120, 160))
        for points in (ring["exterior"], *ring["interiors"])
    )
    assert areas(case)[1] == outer - inner


@of("labelstudio_brush_as_COCO_empty")
def test_an_empty_export_is_not_ok(case: Path) -> None:
    for name in "ab":
        Image.new("RGB", (160, 120) if name == "a" else (128, 96)).save(case / f"{name}.png")
    checked = call("data", "check", ".")
    assert checked.exit_code == 1
    assert "without any instance" in checked.output


@of("boundary_band")
def test_boundary_band(case: Path) -> None:
    truth = load_ground_truth(case / "225x300/instances.json")
    metrics = evaluate(read_results(case / "225x300/predictions.json", truth), truth)
    assert metrics["boundary_AP"] == pytest.approx(44.3, abs=0.05)


@of("large_image_ids")
def test_image_ids_beyond_doubles(case: Path) -> None:
    outputs = []
    for name in ("small_ids", "timestamp_ids"):
        predictions = f"{name}/predictions.jsonl.gz"
        result = call("eval", predictions, "--data", name, "--split", "val")
        assert result.exit_code == 0, result.output
        outputs.append(result.output.splitlines()[-3:])
        assert call("compare", predictions, predictions, "--data", name, "--split", "val",
                    "--resamples", 100).exit_code == 0  # fmt: skip
    assert outputs[0] == outputs[1]
    assert outputs[0][0].split()[:2] == ["mask", "14.1"]


@of("predict_into_input_folder")
def test_predict_leaves_its_inputs_alone(case: Path, files: Path) -> None:
    result = call("predict", "../_weights/tiny.safetensors", "photos", "--out", "photos")
    assert result.exit_code == 1
    for original in (files / case.name / "photos").iterdir():
        assert filecmp.cmp(original, case / "photos" / original.name, shallow=False)


@of("sixteen_bit_images")
def test_one_grey_picture_in_four_depths(case: Path) -> None:
    model = b2inst.load_model("../_weights/tiny.safetensors")
    names = ("eight_bit.png", "sixteen_bit.png", "sixteen_bit.pgm", "float_0_to_1.tif")
    expected = np.asarray(Image.open("eight_bit.png").convert("RGB")).astype(float)
    for name, result in zip(names, model.predict(list(names)), strict=True):
        assert abs(np.asarray(read_image(name)) - expected).max() <= 1
        assert abs(result.image - expected).max() <= 1


@of("tiff_orientation")
def test_tiff_orientation(case: Path) -> None:
    assert call("data", "check", "upright_size").exit_code == 0
    stored = call("data", "check", "stored_size")
    assert stored.exit_code == 1
    assert "the upright image is 96×128 but its annotations say 128×96" in stored.output
    index = CocoIndex.load(*find_split("upright_size", "train"))
    dataset = CocoDataset(index, train_transforms(shorter=64, longer_max=128))
    assert dataset[0][0].shape[-2:] == (85, 64)


@of("more_than_255_classes")
def test_more_than_255_classes(case: Path) -> None:
    assert call("data", "check", ".").exit_code == 0
    index = CocoIndex.load(*find_split(".", "train"))
    dataset = CocoDataset(index, lambda image, shapes: (image, shapes))
    labels = {int(label) for i in range(len(index)) for label in dataset[i][1].labels}
    semantic = {int(v) for i in range(len(index)) for v in dataset[i][1].semantic.unique()}
    assert max(labels) > 255
    assert semantic - {0} <= {label + 1 for label in labels}
    assert max(semantic) > 256


@of("flat_box_zero_area")
def test_zero_boxes_of_objects_with_pixels(case: Path) -> None:
    checked = call("data", "check", ".")
    assert checked.exit_code == 1
    for pixels in (554, 834, 735):
        assert f"has bbox and area 0, but its mask has area {pixels}" in checked.output


@of("emoji_in_path")
def test_emoji_in_path(case: Path) -> None:
    (folder,) = case.glob("*photos")
    assert call("data", "check", folder).exit_code == 0


@of("corrupt_file_in_folder")
def test_a_bad_file_in_a_folder(case: Path) -> None:
    weights = "../_weights/tiny.safetensors"
    result = call("predict", weights, "photos", "--out", "o")
    assert result.exit_code == 1
    assert "._000001.png" in result.output
    assert "--skip-bad" in result.output
    result = call("predict", weights, "photos", "--out", "o", "--skip-bad")
    assert result.exit_code == 0, result.output
    assert "._000001.png" in result.output
    found = json.loads(Path("o/predictions.json").read_text())
    assert len(found["images"]) == 3


@of("bom_in_annotations")
def test_byte_order_mark(case: Path) -> None:
    checked = call("data", "check", ".")
    assert checked.exit_code == 0
    assert "byte-order mark" in checked.output
    assert len(load_ground_truth(find_split(".", "val")[0]).anns) == 7


@of("converted_custom_classes")
def test_converted_custom_classes(case: Path) -> None:
    runpy.run_path("make_checkpoint.py")
    evaluated = call("eval", "yolact_custom.safetensors", "--data", ".", "--split", "val")
    assert evaluated.exit_code == 0, evaluated.output
    call("convert", "yolact_base_133_800.pth", "named.safetensors", "--from", "yolact",
         "--names", "scratch,dent,rust")  # fmt: skip
    assert b2inst.load_model("named.safetensors").class_names == ("scratch", "dent", "rust")


@of("one_name_two_categories")
def test_two_categories_of_one_name(case: Path) -> None:
    output = call("data", "check", ".").output
    assert "fish (id 1) 15, fish (id 2) 5, boat 6" in output
    assert "'fish', ids 1 and 2" in output


@of("same_name_in_two_folders")
def test_two_images_of_one_name(case: Path) -> None:
    call("predict", "../_weights/tiny.safetensors", "a", "b", "--out", "o")
    names = [i["file_name"] for i in json.loads(Path("o/predictions.json").read_text())["images"]]
    assert len(set(names)) == 2
    assert {Path(name).name for name in names} == {"x.png"}


@of("long_thin_image")
def test_long_thin_images(case: Path) -> None:
    result = call("predict", "../_weights/tiny.safetensors", "line.png", "strip.png", "--out", "o")
    assert result.exit_code == 0, result.output
    for picture in Path("o").glob("*.png"):
        with Image.open(picture) as opened:
            assert opened.width * opened.height < 2**24


@of("all_crowd")
def test_all_crowd(case: Path) -> None:
    assert "all annotations have iscrowd 1" in call("data", "check", ".").output
    trained = call("train", "maskrcnn-tiny", "--profile", "smoke", "--data", ".")
    assert trained.exit_code == 1
    assert "all annotations have iscrowd 1" in trained.output


def test_mushrooms(files: Path) -> None:
    """A real export, as it lies beside the corpus."""
    folder = Path(os.environ.get("B2INST_MUSHROOMS", files.parent / "mushrooms"))
    if not folder.is_dir():
        pytest.skip("no mushrooms beside B2INST_FILES")
    index = CocoIndex.load(*find_split(folder, "val"))
    assert len(index.images) == 6
    dense = max(index.annotations.values(), key=len)
    content = json.loads((folder / "valid/_annotations.coco.json").read_text())
    assert len(load_ground_truth(index).anns) == len(content["annotations"])
    assert len(dense) >= 117
