from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from b2inst.data import DataError
from b2inst.evaluation import EvaluationError, save_predictions, write_predictions
from b2inst.evaluation.results import image_index, submission_path, write_submission
from b2inst.structures import Instances

CATEGORIES = [{"id": 7, "name": "gear"}, {"id": 3, "name": "star"}]


class Found:
    """Two overlapping squares in each image, the second ranked first."""

    def predict(self, images: list[np.ndarray]) -> list[Instances]:
        masks = torch.zeros(2, *images[0].shape[:2], dtype=torch.bool)
        masks[0, 2:12, 3:13] = masks[1, 5:25, 5:25] = True
        boxes = torch.tensor([[3.0, 2, 13, 12], [5, 5, 25, 25]])
        scores, labels = torch.tensor([0.3, 0.6]), torch.tensor([0, 1])
        return [Instances(boxes, scores, scores, labels, masks) for _ in images]


@pytest.fixture
def image_info(tmp_path: Path) -> Path:
    """As COCO gives out for test-dev: images and categories, no annotations."""
    (tmp_path / "test2017").mkdir()
    images = []
    for i, size in enumerate([(40, 30), (30, 30)], start=5):
        Image.new("RGB", size).save(tmp_path / f"test2017/{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": size[0], "height": size[1]})
    file = tmp_path / "image_info_test-dev2017.json"
    file.write_text(json.dumps({"info": {}, "images": images, "categories": CATEGORIES}))
    return file


def test_the_file_is_what_the_server_loads(image_info: Path, tmp_path: Path) -> None:
    index = image_index(image_info, tmp_path / "test2017")
    assert index.category_ids == (3, 7)
    predictions = tmp_path / "predictions.jsonl.gz"
    write_predictions(Found(), index, predictions, progress=False)
    path = submission_path(image_info, tmp_path, name="b2inst")
    assert path.name == "detections_test-dev2017_b2inst_results.json"
    assert write_submission(predictions, path) == {5: 2, 6: 2}
    with contextlib.redirect_stdout(io.StringIO()):
        info = COCO(str(image_info))
        info.dataset["annotations"] = []
        loaded = info.loadRes(str(path))
    found = loaded.loadAnns(loaded.getAnnIds())
    assert [(d["image_id"], d["category_id"], d["score"]) for d in found] == [
        (image, category, pytest.approx(score))
        for image in (5, 6)
        for category, score in ((3, 0.3), (7, 0.6))
    ]
    assert [d["area"] for d in found] == [100, 400] * 2  # the masks'
    assert coco_mask.decode(found[1]["segmentation"])[5:25, 5:25].all()
    assert {"bbox", "class_score"}.isdisjoint(json.loads(path.read_text())[0])


def test_the_server_counts_it(image_info: Path, tmp_path: Path) -> None:
    """With annotations that are the predictions, AP is 1."""
    index = image_index(image_info, tmp_path / "test2017")
    predictions = tmp_path / "predictions.jsonl.gz"
    write_predictions(Found(), index, predictions, progress=False)
    path = tmp_path / "results.json"
    write_submission(predictions, path)
    content = json.loads(image_info.read_text())
    content["annotations"] = [
        detection | {"id": i, "iscrowd": 0, "area": int(coco_mask.area(detection["segmentation"]))}
        for i, detection in enumerate(json.loads(path.read_text()), start=1)
    ]
    truth = tmp_path / "instances_kept_back.json"
    truth.write_text(json.dumps(content))
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        server = COCOeval(coco, coco.loadRes(str(path)), "segm")
        server.evaluate()
        server.accumulate()
        server.summarize()
    assert server.stats[0] == pytest.approx(1)


def test_nothing_found_is_an_empty_list(tmp_path: Path) -> None:
    save_predictions(tmp_path / "none.jsonl.gz", [])
    assert not write_submission(tmp_path / "none.jsonl.gz", tmp_path / "results.json")
    assert (tmp_path / "results.json").read_text() == "[]\n"


def test_without_images_there_is_nothing_to_submit(image_info: Path, tmp_path: Path) -> None:
    for image in (tmp_path / "test2017").iterdir():
        image.write_text("no image")
    with pytest.raises(EvaluationError, match=r"dev2017\.json: has no images to predict"):
        image_index(image_info, tmp_path / "test2017", skip_bad=True)
    image_info.write_text(json.dumps(json.loads(image_info.read_text()) | {"images": []}))
    with pytest.raises(EvaluationError, match=r"dev2017\.json: has no images to predict"):
        image_index(image_info, tmp_path / "test2017")


def test_what_is_wrong_is_told_first(image_info: Path, tmp_path: Path) -> None:
    (tmp_path / "test2017/6.png").unlink()
    with pytest.raises(DataError, match=r"image 6 \(6.png\) is missing from the image folder"):
        image_index(image_info, tmp_path / "test2017")
    with pytest.raises(DataError, match="cannot be read"):
        image_index(tmp_path / "none.json", tmp_path)
    image_info.write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        image_index(image_info, tmp_path / "test2017")
