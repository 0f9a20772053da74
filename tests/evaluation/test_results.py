"""Prediction files as other tools write them, against pycocotools' reading of the masks."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_coco_eval import COCO
from pycocotools import mask as coco_mask

from b2inst.evaluation import EvaluationError, Prediction, evaluate
from b2inst.evaluation.ground_truth import load_ground_truth
from b2inst.evaluation.results import read_results

from .conftest import SIZE, ellipse, prediction, random_pair, rle

TRUTH, PREDICTIONS = random_pair(0, images=3)


@pytest.fixture
def truth() -> COCO:
    return load_ground_truth(TRUTH)


def write(path: Path, content: Any) -> Path:
    text = json.dumps(content).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def as_annotations(
    predictions: list[Prediction],
    names: dict[int, str],
    categories: dict[int, str],
) -> dict[str, Any]:
    """A COCO annotation file with scores, as `b2inst predict` writes."""
    return {
        "images": [{"id": i, "file_name": n, "height": 72, "width": 96} for i, n in names.items()],
        "categories": [{"id": i, "name": name} for i, name in categories.items()],
        "annotations": [
            {"id": i, **p, "area": 1, "iscrowd": 0} for i, p in enumerate(predictions, start=1)
        ],
    }


@pytest.mark.parametrize("name", ["results.json", "results.json.gz", "R.JSON"])
def test_coco_results_are_read_also_without_boxes(tmp_path: Path, truth: COCO, name: str) -> None:
    assert read_results(write(tmp_path / name, PREDICTIONS), truth) == PREDICTIONS
    for missing in ({}, {"bbox": None}, {"bbox": []}):
        bare = [{k: v for k, v in p.items() if k != "bbox"} | missing for p in PREDICTIONS]
        # The fixture's boxes are those of the masks.
        assert read_results(write(tmp_path / name, bare), truth) == PREDICTIONS


def test_a_byte_order_mark_is_no_error(tmp_path: Path, truth: COCO) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(PREDICTIONS), encoding="utf-8-sig")
    assert read_results(path, truth) == PREDICTIONS


def test_masks_as_run_lengths_in_a_list(tmp_path: Path, truth: COCO) -> None:
    plain = copy.deepcopy(PREDICTIONS)
    for p in plain:
        pixels = coco_mask.decode(p["segmentation"]).ravel(order="F")
        changes = np.flatnonzero(np.diff(pixels, prepend=0))
        p["segmentation"]["counts"] = np.diff(changes, prepend=0, append=len(pixels)).tolist()
    assert read_results(write(tmp_path / "results.json", plain), truth) == PREDICTIONS


def test_masks_as_polygons(tmp_path: Path, truth: COCO) -> None:
    corners = [[10, 12, 40, 12, 40, 30, 10, 30], [50.5, 50.5, 70.5, 50.5, 60.5, 65.5]]
    record = {"image_id": 10, "category_id": 2, "score": 0.5, "segmentation": corners}
    (found,) = read_results(write(tmp_path / "results.json", [record]), truth)
    expected = coco_mask.merge(coco_mask.frPyObjects(corners, *SIZE))
    assert (coco_mask.decode(found["segmentation"]) == coco_mask.decode(expected)).all()
    assert found["bbox"] == coco_mask.toBbox(expected).tolist()


def test_whole_ids_as_floats_and_fields_of_other_tools(tmp_path: Path, truth: COCO) -> None:
    records = [
        p | {"image_id": float(p["image_id"]), "category_id": float(p["category_id"]), "id": 7}
        for p in PREDICTIONS
    ]
    found = read_results(write(tmp_path / "results.json", records), truth)
    assert found == [p | {"id": 7} for p in PREDICTIONS]
    assert all(type(p["image_id"]) is type(p["category_id"]) is int for p in found)


def test_an_annotation_file_with_scores_goes_by_names(tmp_path: Path, truth: COCO) -> None:
    """Its images are numbered in another order, its categories too."""
    images, categories = {10: 2, 11: 3, 12: 1}, {2: 7, 3: 2, 7: 3}
    records = [
        p | {"image_id": images[p["image_id"]], "category_id": categories[p["category_id"]]}
        for p in PREDICTIONS
    ]
    for folder in ("", "val2017/", "/data/val2017/", "C:\\val\\", "https://host/"):
        content = as_annotations(
            records,
            {images[i]: f"{folder}{i}.png" for i in (12, 11, 10)},
            {categories[i]: f"class {i}" for i in (2, 3, 7)},
        )
        found = read_results(write(tmp_path / "predictions.json", content), truth)
        assert evaluate(found, TRUTH) == evaluate(PREDICTIONS, TRUTH)


def test_an_annotation_file_without_names_goes_by_ids(tmp_path: Path) -> None:
    """No lists of images and categories, or a model whose classes are numbers."""
    images = {i: f"{i}.png" for i in (10, 11, 12)}
    for content in (
        as_annotations(PREDICTIONS, images, {2: "0", 3: "1", 7: "2"}),
        as_annotations(PREDICTIONS, {}, {}),
        {"annotations": PREDICTIONS},
    ):
        found = read_results(write(tmp_path / "predictions.json", content), TRUTH)
        assert evaluate(found, TRUTH) == evaluate(PREDICTIONS, TRUTH)


def test_two_categories_of_one_name_keep_their_ids(tmp_path: Path) -> None:
    twins = copy.deepcopy(TRUTH)
    for category in twins["categories"]:
        category["name"] = "same" if category["id"] < 7 else "other"
    content = as_annotations(
        PREDICTIONS, {i: f"{i}.png" for i in (10, 11, 12)}, {2: "same", 3: "same", 7: "other"}
    )
    found = read_results(write(tmp_path / "predictions.json", content), load_ground_truth(twins))
    assert [p["category_id"] for p in found] == [p["category_id"] for p in PREDICTIONS]


@pytest.mark.parametrize(
    ("names", "categories", "message"),
    [
        (
            {10: "a.png", 11: "11.png", 12: "12.png"},
            {},
            "file_name 'a.png' is not among the images evaluated",
        ),
        (
            {10: "x/10.png", 11: "y/10.png", 12: "12.png"},
            {},
            r"file_name '[xy]/10\.png' is ambiguous: the file has x/10\.png, y/10\.png, and the "
            r"images evaluated 10\.png; use the names",
        ),
        (
            {10: "10.png", 11: "sub/10.png", 12: "12.png"},
            {},
            r"'(sub/)?10\.png' is ambiguous: the file has 10\.png, sub/10\.png, and",
        ),
        (
            {},
            {2: "class 2", 3: "class 3", 7: "cat"},
            "prediction .*: name 'cat' is not among the categories evaluated",
        ),
    ],
)
def test_names_that_the_truth_does_not_have(
    tmp_path: Path,
    truth: COCO,
    names: dict[int, str],
    categories: dict[int, str],
    message: str,
) -> None:
    found = [p | {"category_id": c} for p, c in zip(PREDICTIONS, (2, 3, 7) * 9, strict=False)]
    path = write(tmp_path / "predictions.json", as_annotations(found, names, categories))
    with pytest.raises(EvaluationError, match=message) as caught:
        read_results(path, truth)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("images", "categories", "message"),
    [
        ({1: "11.png"}, {2: "class 2"}, "image_id 10 is not among the file's own images; add it"),
        ({10: "10.png"}, {5: "class 3"}, "category_id 2 is not among the file's own categories"),
        ({10: "10.png"}, {5: "1"}, "category_id 2 is not among the file's own categories"),
    ],
)
def test_ids_that_only_the_truth_has(
    tmp_path: Path, truth: COCO, images: dict[int, str], categories: dict[int, str], message: str
) -> None:
    path = write(tmp_path / "p.json", as_annotations([ONE], images, categories))
    with pytest.raises(EvaluationError, match=rf"p\.json: prediction 0: {message}"):
        read_results(path, truth)


ONE = prediction(10, 2, ellipse(np.random.default_rng(0)), 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segmentation": None}, "prediction 0: has no segmentation; give masks"),
        (
            {"segmentation": []},
            "prediction 0 has no polygon of at least 3 points; correct or remove this prediction$",
        ),
        ({"segmentation": [[1, 2, 3]]}, "prediction 0 has a polygon .* two numbers a point"),
        (
            {"segmentation": [[1, 2, 3, 4, 5, float("nan")]]},
            "prediction 0 has a .* y = nan, outside",
        ),
        ({"segmentation": rle(np.ones((9, 9)))}, r"prediction 0 has a run-length code of size"),
        ({"segmentation": {"size": list(SIZE), "counts": "0"}}, "prediction 0 has run lengths add"),
        ({"segmentation": {"size": list(SIZE), "counts": [5]}}, "prediction 0 has run lengths add"),
        ({"score": None}, "prediction 0: score is None: .* number"),
        ({"score": float("nan")}, "prediction 0: score is nan: .* finite"),
        ({"score": float("inf")}, "prediction 0: score is inf: .* finite"),
        ({"class_score": "1"}, "prediction 0: class_score is '1': .* number"),
        ({"bbox": [1, 2, 3]}, r"prediction 0: bbox is \[1, 2, 3\]: not four numbers x y w h; pred"),
        ({"bbox": [1, 2, 3, 4, 5]}, r"prediction 0: bbox is \[1, 2, 3, 4, 5\]: not four numb"),
        ({"bbox": "1 2 3 4"}, "prediction 0: bbox is '1 2 3 4': not four numbers x y w h; predict"),
        ({"bbox": [1, 2, -3, 4]}, "prediction 0: bbox.2 is -3: .* write x y w h"),
        ({"image_id": "10"}, "prediction 0: image_id '10' is not a whole number"),
        ({"image_id": 10.5}, "prediction 0: image_id 10.5 is not a whole number"),
        ({"image_id": 13}, "prediction 0: image_id 13 is not among the images evaluated"),
        ({"category_id": [2]}, r"prediction 0: category_id \[2\] is not a whole number"),
        ({"category_id": 4}, "prediction 0: category_id 4 is not among the categories eval"),
    ],
)
def test_what_is_wrong_with_a_detection_is_named(
    tmp_path: Path, truth: COCO, changes: dict[str, Any], message: str
) -> None:
    for content in ([ONE | changes], {"annotations": [ONE | changes]}):
        path = write(tmp_path / "results.json", content)
        with pytest.raises(EvaluationError, match=rf"results\.json: {message}") as caught:
            read_results(path, truth)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": []}, "has no predictions; give a JSON list"),
        ({"annotations": 3}, "has no predictions; give a JSON list"),
        (3, "has no predictions; give a JSON list"),
        ([7], "prediction 0: 7 is not a detection"),
        (TRUTH, "prediction 0: has no score"),
        ({"images": [3], "categories": 3, "annotations": [None]}, "0: None is not a detection"),
        ([{k: v for k, v in ONE.items() if k != "image_id"}], "image_id None is not a whole"),
    ],
)
def test_files_of_something_else(tmp_path: Path, truth: COCO, content: Any, message: str) -> None:
    path = write(tmp_path / "results.json", content)
    with pytest.raises(EvaluationError, match=message) as caught:
        read_results(path, truth)
    assert str(path) in str(caught.value)


WRONG = [None, True, -1, 1.5, float("nan"), 2**70, 1e308, "x", [], {}, [[1, 2]], [None], {"a": 1}]


@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_wrong_values_anywhere_are_read_or_refused(tmp_path: Path, truth: COCO, value: Any) -> None:
    """Whatever a file has in whatever place: predictions that can be evaluated, or an error."""
    names = {i: f"{i}.png" for i in (10, 11, 12)}
    whole = as_annotations([ONE], names, {i: f"class {i}" for i in (2, 3, 7)})
    refused = []
    for part, place in (
        *((whole["annotations"][0], key) for key in ONE),
        *((whole["annotations"][0]["segmentation"], key) for key in ("size", "counts")),
        *((whole[key][0], name) for key in ("images", "categories") for name in whole[key][0]),
        *((whole[key], 0) for key in whole),
        *((whole, key) for key in whole),
    ):
        right, part[place] = part[place], value
        try:
            evaluate(read_results(write(tmp_path / "p.json", whole), truth), truth)
        except EvaluationError as error:
            refused.append(str(error))
        part[place] = right
    assert len(refused) >= 5
    assert all(line.startswith(f"{tmp_path / 'p.json'}: ") for line in refused)


def test_files_that_cannot_be_read(tmp_path: Path, truth: COCO) -> None:
    for name, content in (("cut.json", b"[{"), ("cut.json.gz", b"\x1f\x8b8")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(EvaluationError, match=rf"{name}: cannot be read as predictions"):
            read_results(tmp_path / name, truth)
    for name in ("none.json", "none.jsonl.gz"):
        with pytest.raises(
            EvaluationError, match=f"{name}: no such prediction file; predict again"
        ):
            read_results(tmp_path / name, truth)


@pytest.mark.parametrize("name", ["m.safetensors", "m.onnx", "m.xml"])
def test_weights_are_no_predictions(tmp_path: Path, truth: COCO, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x95\x00")
    with pytest.raises(EvaluationError, match=rf"has weights, not .*`b2inst eval .*{name} --data"):
        read_results(path, truth)
