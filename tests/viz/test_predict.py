from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from b2inst.data import DataError
from b2inst.structures import Instances
from b2inst.viz.predict import find_images, predict_files

SIZE = (40, 48)


class Model:
    """Finds one square of 10×10 pixels, surely, and one pixel, hardly."""

    class_names: tuple[str, ...] | None = ("star", "gear")
    recipe = {"num_classes": 2}  # noqa: RUF012

    def predict(self, images: list[np.ndarray]) -> list[Instances]:
        masks = torch.zeros((2, *SIZE), dtype=torch.bool)
        masks[0, 5:15, 20:30] = True
        masks[1, 0, 0] = True
        scores = torch.tensor([0.9, 0.1])
        return [
            Instances(
                boxes=torch.tensor([[20.0, 5, 30, 15], [0, 0, 1, 1]]),
                scores=scores,
                class_scores=scores,
                labels=torch.tensor([1, 0]),
                masks=masks,
                class_names=self.class_names,
            )
            for _ in images
        ]


def photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), 90, dtype=np.uint8)).save(path)
    return path


def test_the_json_is_read_by_coco_tools(tmp_path: Path) -> None:
    images = [photo(tmp_path / "a.png"), photo(tmp_path / "b.jpg")]
    predict_files(Model(), images, tmp_path / "out", category_ids=(3, 7), progress=False)  # type: ignore[arg-type]
    coco = COCO(str(tmp_path / "out" / "predictions.json"))
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == ["a.png", "b.jpg"]
    assert len(coco.getAnnIds()) == 4
    (found,) = coco.loadAnns(coco.getAnnIds(imgIds=[2], catIds=[7]))
    assert found["bbox"] == [20, 5, 10, 10]
    assert found["area"] == 100
    assert found["score"] == pytest.approx(0.9)
    assert coco.annToMask(found)[5:15, 20:30].all()


def test_pictures_show_what_is_sure(tmp_path: Path) -> None:
    (picture,) = predict_files(
        Model(),  # type: ignore[arg-type]
        [photo(tmp_path / "a.png")],
        tmp_path / "out",
        progress=False,
    )
    assert picture == tmp_path / "out" / "a.png"
    drawn = np.asarray(Image.open(picture))
    scale = drawn.shape[0] // SIZE[0]
    assert drawn.shape == (SIZE[0] * scale, SIZE[1] * scale, 3)
    assert (drawn[10 * scale, 29 * scale] != 90).any()
    assert (drawn[:scale, :scale] == 90).all()


def test_images_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    images = [photo(tmp_path / folder / "a.png") for folder in ("x", "y", "z")]
    pictures = predict_files(Model(), images, tmp_path / "out", progress=False)  # type: ignore[arg-type]
    assert [p.name for p in pictures] == ["a.png", "a-2.png", "a-3.png"]


def test_a_model_without_names_counts_its_classes(tmp_path: Path) -> None:
    model = Model()
    model.class_names = None
    predict_files(model, [photo(tmp_path / "a.png")], tmp_path / "out", progress=False)  # type: ignore[arg-type]
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "0"}, {"id": 2, "name": "1"}]


def test_folders_mean_the_images_in_them(tmp_path: Path) -> None:
    b, a = photo(tmp_path / "in" / "b.png"), photo(tmp_path / "in" / "a.jpg")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    assert find_images([tmp_path / "in", b]) == [a, b, b]


def test_bad_paths_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        find_images([tmp_path / "empty"])
    with pytest.raises(DataError, match=r"gone\.png"):
        predict_files(Model(), [tmp_path / "gone.png"], tmp_path / "out", progress=False)  # type: ignore[arg-type]
