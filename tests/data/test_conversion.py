from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from b2inst.data import DataError
from b2inst.data.conversion import Conversion
from b2inst.data.wording import BadFileError

SQUARE = [[2.0, 3.0, 10.0, 3.0, 10.0, 13.0, 2.0, 13.0]]  # 8×10 pixels


SIZE = (20, 30)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "a.png"
    path.parent.mkdir()
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(path)
    return path


def convert(image: Path, out: Path) -> Conversion:
    """Two images, of which the second has no objects."""
    other = image.parent / "one" / "b.png"
    other.parent.mkdir(exist_ok=True)
    other.write_bytes(image.read_bytes())
    pixels = np.zeros(SIZE, np.uint8)
    pixels[4:9, 1:3] = pixels[15, 20] = 1
    code = coco_mask.encode(np.asfortranarray(pixels))
    sliver = [[5.0, 5.0, 6.0, 5.0, 7.0, 5.0]]

    def read(path: Path, height: int, width: int) -> list[tuple[int, Any]]:
        assert (height, width) == SIZE
        return [(3, SQUARE), (1, sliver), (1, code)] if path == other else []

    conversion = Conversion(image.parent, out)
    conversion.read("train", [other, image], read)
    conversion.write({1: "dog", 3: "cat"})
    return conversion


def test_annotations_have_the_pixels_of_the_masks(image: Path, tmp_path: Path) -> None:
    conversion = convert(image, tmp_path / "out")
    content = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    assert content["images"] == [
        {"id": 1, "file_name": "one/b.png", "height": 20, "width": 30},
        {"id": 2, "file_name": "a.png", "height": 20, "width": 30},
    ]
    assert content["categories"] == [{"id": 1, "name": "dog"}, {"id": 3, "name": "cat"}]
    square, pieces = content["annotations"]
    assert square == {
        "id": 1, "image_id": 1, "category_id": 3, "iscrowd": 0,
        "segmentation": SQUARE, "area": 80, "bbox": [2, 3, 8, 10],
    }  # fmt: skip
    assert (pieces["id"], pieces["area"], pieces["bbox"]) == (2, 11, [1, 4, 20, 12])
    assert coco_mask.decode(pieces["segmentation"]).sum() == 11
    assert conversion.splits == {"train": (2, 1, 2)}
    assert str(conversion).splitlines()[1:] == [
        "note: train: objects that cover no pixel, left out: 1",
    ]


def test_images_are_links_and_the_folder_has_usual_permissions(image: Path, tmp_path: Path) -> None:
    convert(image, tmp_path / "out")
    assert (tmp_path / "out/train/a.png").samefile(image)
    (tmp_path / "usual").mkdir()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("out", "usual")]
    assert modes[0] == modes[1]


def test_images_are_copied_where_there_can_be_no_link(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(os, "link", link)
    convert(image, tmp_path / "out")
    copy = tmp_path / "out/train/a.png"
    assert not copy.samefile(image)
    assert copy.read_bytes() == image.read_bytes()


def test_nothing_is_written_to_a_folder_with_files(image: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    convert(image, tmp_path / "out")
    with pytest.raises(DataError, match="out: already exists"):
        convert(image, tmp_path / "out")
    with pytest.raises(DataError, match=r"lies in .*choose a folder outside"):
        convert(image, image.parent / "out")
    with pytest.raises(DataError, match="no such file or folder"):
        Conversion(tmp_path / "gone", tmp_path / "new")


def test_it_is_whole_or_not_there(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(KeyboardInterrupt):
        convert(image, tmp_path / "out")
    assert os.listdir(tmp_path) == ["source"]


def test_a_data_set_without_objects_is_an_error(image: Path, tmp_path: Path) -> None:
    conversion = Conversion(image.parent, tmp_path / "out")
    conversion.read("train", [image], lambda *_: [])
    with pytest.raises(DataError, match="no image has an object"):
        conversion.write({1: "dog"})
    assert not (tmp_path / "out").exists()


def test_problems_are_raised_or_listed(tmp_path: Path) -> None:
    strict = Conversion(tmp_path, tmp_path.with_name("new"))
    with pytest.raises(DataError, match=r"^a; correct it$"):
        strict.leave_out(DataError("a"))
    with pytest.raises(DataError, match=r"^b; restore it$"):
        strict.leave_out(BadFileError("b; restore it"))
    lenient = Conversion(tmp_path, tmp_path.with_name("new"), skip_bad=True)
    for error in (DataError("a"), BadFileError("b; restore it")):
        lenient.leave_out(error)
    assert lenient.skipped == ["a", "b; restore it"]
    assert "left out: a\nleft out: b; restore it" in str(lenient)
