from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from b2inst.data import DataError, find_split, find_splits

COCO = json.dumps({"images": [], "annotations": [], "categories": []})


def lay_out(root: Path, *names: str) -> None:
    """Make annotation files (names that end in .json) and folders."""
    for name in names:
        path = root / name
        if path.suffix == ".json":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(COCO)
        else:
            path.mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (
            ["annotations/instances_train2017.json", "annotations/instances_val2017.json",
             "train2017", "val2017"],
            {"train2017": "train2017", "val2017": "val2017"},
        ),
        (  # datumaro, CVAT with subsets
            ["annotations/instances_train.json", "annotations/instances_val.json",
             "images/train", "images/val"],
            {"train": "images/train", "val": "images/val"},
        ),
        (  # two files over one image folder
            ["annotations/instances_a.json", "annotations/instances_b.json", "images"],
            {"a": "images", "b": "images"},
        ),
        (["annotations/train.json", "annotations/captions.txt", "train"], {"train": "train"}),
        (["annotations/instances_default.json", "images"], {"default": "images"}),  # CVAT
        (["annotations/instances_default.json", "photos"], {"default": "photos"}),
        (["result.json", "images"], {"result": "images"}),  # Label Studio
        (["result.json"], {"result": "."}),
        (["train.json", "val.json", "train", "val"], {"train": "train", "val": "val"}),
        (
            ["train/_annotations.coco.json", "valid/_annotations.coco.json",
             "test/_annotations.coco.json"],
            {"train": "train", "valid": "valid", "test": "test"},
        ),
        (["_annotations.coco.json"], {"train": "."}),
    ],
)  # fmt: skip
def test_layouts(names: list[str], expected: dict[str, str], tmp_path: Path) -> None:
    lay_out(tmp_path, *names)
    assert find_splits(tmp_path) == sorted(expected)
    for split, folder in expected.items():
        annotation_file, image_dir = find_split(tmp_path, split)
        assert annotation_file.is_file()
        assert image_dir.resolve() == (tmp_path / folder).resolve()


def test_splits_go_by_several_names(tmp_path: Path) -> None:
    lay_out(tmp_path, *(f"{name}/_annotations.coco.json" for name in ("train", "valid", "test")))
    assert find_split(tmp_path, "val") == find_split(tmp_path, "valid")
    with pytest.raises(DataError, match=r"no split 'val2017'; it has test, train, valid"):
        find_split(tmp_path, "val2017")


def test_a_folder_of_no_layout_is_told_the_layouts(tmp_path: Path) -> None:
    lay_out(tmp_path, "pictures")
    (tmp_path / "notes.json").write_text("[]")
    with pytest.raises(DataError) as error:
        find_splits(tmp_path)
    message = str(error.value)
    for words in ("instances_<split>.json", "_annotations.coco.json", "notes.json, pictures/"):
        assert words in message
    with pytest.raises(DataError, match="no such folder"):
        find_splits(tmp_path / "nowhere")


def test_a_missing_image_folder_is_named(tmp_path: Path) -> None:
    lay_out(tmp_path, "annotations/instances_val.json", "annotations/instances_train.json", "train")
    with pytest.raises(DataError, match="images of split 'val' belong there"):
        find_split(tmp_path, "val")


@pytest.mark.parametrize(
    ("names", "given", "meant"),
    [
        (["a/annotations/instances_train.json", "a/train"], "", "a"),
        (["a/annotations/instances_train.json", "a/train"], "a/annotations", "a"),
        (["a/annotations/instances_train.json", "a/train"], "a/train", "a"),
        (["a/annotations/instances_train.json", "a/images/train"], "a/images", "a"),
        (["a/annotations/instances_train.json", "a/images/train"], "a/images/train", "a"),
        (["a/result.json", "a/images"], "a/images", "a"),
        (["a/train/_annotations.coco.json", "a/valid/_annotations.coco.json"], "", "a"),
    ],
)
def test_a_folder_above_or_below_is_told_the_right_one(
    names: list[str], given: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path, *names)
    (tmp_path / given).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / given)
    for folder in (tmp_path / given, Path()):
        with pytest.raises(DataError) as error:
            find_splits(folder)
        expected = tmp_path / meant if given else folder / meant
        assert str(error.value) == f"{folder}: is no COCO-format folder; did you mean {expected}?"


def test_other_folders_beside_a_data_set_are_not_taken_for_its_parts(tmp_path: Path) -> None:
    lay_out(tmp_path, "annotations/instances_train.json", "train", "other")
    with pytest.raises(DataError, match="other: no COCO-format annotations; known are"):
        find_splits(tmp_path / "other")


def test_a_data_set_may_be_called_annotations(tmp_path: Path) -> None:
    lay_out(tmp_path, "annotations/result.json", "annotations/images")
    Image.new("RGB", (8, 8)).save(tmp_path / "annotations/images/a.png")
    assert find_splits(tmp_path / "annotations") == ["result"]
