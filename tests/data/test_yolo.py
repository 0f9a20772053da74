from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask

from b2inst.data import DataError, check_coco, convert_yolo
from b2inst.data.yolo import read_yolo_labels

WIDTH, HEIGHT = 40, 20
RECTANGLE = "0 0.1 0.2 0.6 0.2 0.6 0.7 0.1 0.7"  # x 4 to 24, y 4 to 14: 200 pixels
NAMES = "names: [cat, dog]\n"


def write(root: Path, files: dict[str, str | bytes | None]) -> Path:
    """Write files; images, of noise, for None."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def converted(tmp_path: Path, split: str = "train", **options: Any) -> dict[str, Any]:
    """The content of the annotation file that the set in ``set/`` becomes."""
    source = options.pop("source", tmp_path / "set")
    convert_yolo(source, tmp_path / "out", **options)
    return json.loads((tmp_path / f"out/annotations/instances_{split}.json").read_text())


def pixels(annotation: dict[str, Any]) -> np.ndarray:
    """H×W, drawn by pycocotools."""
    codes = coco_mask.frPyObjects(annotation["segmentation"], HEIGHT, WIDTH)
    return coco_mask.decode(codes)[:, :, 0].astype(bool)


def small_set(tmp_path: Path, labels: str | bytes = RECTANGLE, yaml: str = "") -> Path:
    """One image with a sound label, a.png, and one with the given one, b.png."""
    files = {
        "images/train/a.png": None,
        "labels/train/a.txt": RECTANGLE,
        "images/train/b.png": None,
        "labels/train/b.txt": labels,
        "data.yaml": yaml or f"train: images/train\n{NAMES}",
    }
    return write(tmp_path / "set", files)


def test_a_data_set_with_two_splits(tmp_path: Path) -> None:
    small_set(tmp_path, "", f"path: .\ntrain: images/train\nval: images/val\n{NAMES}")
    write(tmp_path / "set", {"images/train/c.png": None, "images/val/sub/d.png": None})
    write(tmp_path / "set", {"labels/val/sub/d.txt": RECTANGLE.replace("0 ", "1 ", 1)})
    conversion = convert_yolo(tmp_path / "set", tmp_path / "out")
    assert conversion.splits == {"train": (3, 2, 1), "val": (1, 0, 1)}
    assert len(conversion.notes) == 1
    assert conversion.notes == ["images without label file, taken as empty: 1"]
    content = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    (annotation,) = content["annotations"]
    assert annotation["segmentation"] == [[4, 4, 24, 4, 24, 14, 4, 14]]
    assert (annotation["area"], annotation["bbox"]) == (200, [4, 4, 20, 10])
    assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    report = check_coco(tmp_path / "out")
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("yaml", "image", "label"),
    [
        ("train: images/train", "images/train/x.png", "labels/train/x.txt"),
        ("path: ./\ntrain: images", "images/x.png", "labels/x.txt"),
        (
            "train: ../train/images\ntest: ../test/images",
            "train/images/x.png",
            "train/labels/x.txt",
        ),
        ("train: [images/one]", "images/one/x.png", "labels/one/x.txt"),
        ("path: /data/set\ntrain: images/train", "images/train/x.png", "labels/train/x.txt"),
        ("train: /data/set/images/train", "images/train/x.png", "labels/train/x.txt"),
        (r"train: C:\data\set\images\train", "images/train/x.png", "labels/train/x.txt"),
        ("path: coco8-seg\ntrain: images/train", "images/train/x.png", "labels/train/x.txt"),
        ("train: images/train\nkpt_shape:", "images/train/x.png", "labels/train/x.txt"),
        ("train: images/train\nval: null\ntest:", "images/train/x.png", "labels/train/x.txt"),
        ("train: photos", "photos/x.png", "photos/x.txt"),
        (None, "images/x.png", "labels/x.txt"),
        (None, "images/train/x.png", "labels/train/x.txt"),
        (None, "train/images/x.png", "train/labels/x.txt"),
        (None, "x.png", "x.txt"),
        ("nc: 1", "images/train/images/x.png", "images/train/labels/x.txt"),
    ],
)
def test_layouts(tmp_path: Path, yaml: str | None, image: str, label: str) -> None:
    root = write(tmp_path / "set", {image: None, label: RECTANGLE})
    if yaml is not None:
        write(root, {"data.yaml": f"{yaml}\n{NAMES}"})
    content = converted(tmp_path)
    assert [a["area"] for a in content["annotations"]] == [200]
    assert Path(content["images"][0]["file_name"]).name == "x.png"


@pytest.mark.parametrize("line", ["./images/a/x.png", "images/a/x.png", "data/set/images/a/x.png"])
def test_lists_of_images(tmp_path: Path, line: str) -> None:
    """Only the images of the list, under names that tell them apart."""
    files = {f"images/{name}.png": None for name in ("a/x", "b/x", "b/y")}
    labels = {f"labels/{name}.txt": RECTANGLE for name in ("a/x", "b/x", "b/y")}
    root = write(tmp_path / "set", files | labels)
    write(root, {"list.txt": f"{line}\r\n\r\nimages/b/x.png\r\n"})
    write(root, {"my.yaml": f"train: list.txt\n{NAMES}"})
    content = converted(tmp_path, source=root / "my.yaml")
    assert [image["file_name"] for image in content["images"]] == ["a/x.png", "b/x.png"]


def test_a_number_that_is_no_class_does_not_fill_the_memory(tmp_path: Path) -> None:
    """All numbers up to the largest would be classes."""
    label = RECTANGLE.replace("0 ", "99999999 ", 1)
    small_set(tmp_path, label, yaml="train: images/train\n")
    with pytest.raises(DataError, match=r"line 1: class index 99999999 is not a whole number from"):
        convert_yolo(tmp_path / "set", tmp_path / "out")


def test_a_split_of_valid_is_val(tmp_path: Path) -> None:
    write(tmp_path / "set", {"valid/images/x.png": None, "valid/labels/x.txt": RECTANGLE})
    assert len(converted(tmp_path, "val")["images"]) == 1


def test_a_listed_image_that_is_not_there(tmp_path: Path) -> None:
    root = small_set(tmp_path, yaml=f"train: list.txt\n{NAMES}")
    write(root, {"list.txt": "images/train/a.png\nimages/train/gone.png\n"})
    with pytest.raises(DataError, match=r"gone.png: no such image"):
        converted(tmp_path)
    content = converted(tmp_path, skip_bad=True)
    assert [image["file_name"] for image in content["images"]] == ["a.png"]


def test_pieces_and_holes_in_one_polygon(tmp_path: Path) -> None:
    """Ultralytics and RectLabel join them by lines that go there and back."""
    pieces = [
        (4, 4),
        (12, 4),
        (12, 12),
        (4, 12),
        (4, 4),
        (20, 8),
        (30, 8),
        (30, 16),
        (20, 16),
        (20, 8),
    ]
    ring = [(4, 2), (24, 2), (24, 18), (4, 18), (4, 2), (8, 6), (8, 14), (20, 14), (20, 6), (8, 6)]
    lines = ["0 " + " ".join(f"{x / WIDTH} {y / HEIGHT}" for x, y in p) for p in (pieces, ring)]
    small_set(tmp_path, "\n".join(lines))
    found = [pixels(a) for a in converted(tmp_path)["annotations"][1:]]
    expected = np.zeros((2, HEIGHT, WIDTH), bool)
    expected[0, 4:12, 4:12] = expected[0, 8:16, 20:30] = True
    expected[1, 2:18, 4:24] = True
    expected[1, 6:14, 8:20] = False
    np.testing.assert_array_equal(found, expected)


@given(st.data())
def test_whole_coordinates_come_back(data: st.DataObject) -> None:
    """Files have six digits after the point; pixels of photographs are not lost by them."""
    width, height = (data.draw(st.integers(16, 6000)) for _ in range(2))
    n = data.draw(st.integers(3, 8))
    points = np.array([
        [data.draw(st.integers(0, 2 * side)) / 2 for side in (width, height)] for _ in range(n)
    ])  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        (root / "images").mkdir(parents=True)
        (root / "labels").mkdir()
        Image.new("1", (width, height)).save(root / "images/a.png")
        Image.new("1", (16, 16)).save(root / "images/b.png")
        line = "0 " + " ".join(f"{v:.6f}" for v in (points / (width, height)).ravel())
        (root / "labels/a.txt").write_text(line)
        (root / "labels/b.txt").write_text(RECTANGLE)
        content = converted(Path(folder))
    code = coco_mask.merge(coco_mask.frPyObjects([points.ravel().tolist()], height, width))
    if area := int(coco_mask.area(code)):
        annotation = content["annotations"][0]
        assert annotation["segmentation"] == [points.ravel().tolist()]
        assert annotation["area"] == area
        assert annotation["bbox"] == coco_mask.toBbox(code).tolist()
    else:
        assert [a["image_id"] for a in content["annotations"]] == [2]


@pytest.mark.parametrize(
    "content",
    [
        RECTANGLE + "\r\n\r\n" + RECTANGLE + "\r\n",
        "\ufeff" + RECTANGLE + "\n  " + RECTANGLE.replace(" ", "\t") + " \n\n",
        RECTANGLE.replace("0 ", "0.0 ", 1) + "\n" + RECTANGLE.replace("0.2", "2e-1"),
    ],
)
def test_ways_to_write_a_label_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_bytes(content.encode())
    objects = read_yolo_labels(tmp_path / "a.txt", {0: "cat"})
    assert [index for index, _ in objects] == [0, 0]
    for _, points in objects:
        np.testing.assert_array_equal(points, [[0.1, 0.2], [0.6, 0.2], [0.6, 0.7], [0.1, 0.7]])


def test_points_slightly_outside_are_moved_to_the_border(tmp_path: Path) -> None:
    small_set(tmp_path, "0 -0.004 -0.01 0.5 -0.01 0.5 1.009 -0.004 1.0")
    annotation = converted(tmp_path)["annotations"][1]
    assert annotation["segmentation"] == [[0, 0, 20, 0, 20, 20, 0, 20]]
    assert annotation["area"] == 400


def test_labels_are_of_the_upright_image(tmp_path: Path) -> None:
    """As Ultralytics applies them: stored lying, 40×20; upright 20×40."""
    root = small_set(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "images/train/b.jpg", exif=exif)
    (root / "images/train/b.png").unlink()
    content = converted(tmp_path)
    assert (content["images"][1]["width"], content["images"][1]["height"]) == (HEIGHT, WIDTH)
    assert content["annotations"][1]["bbox"] == [2, 8, 10, 20]
    assert check_coco(tmp_path / "out").ok


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (f"{RECTANGLE}\n0 0.5 0.5 0.2 0.2", r"line 2: is a box, which has no mask"),
        (f"\n{RECTANGLE} 0.93", r"line 2: .* three or more points x y .*score"),
        ("0 0.1 0.1 0.2 0.2 0.3", r"line 1: .* three or more points"),
        ("0 0.1 0.1", r"line 1: .* three or more points"),
        (RECTANGLE.replace("0 ", "2 ", 1), r"class index 2 is not one of the 2 named"),
        (RECTANGLE.replace("0 ", "-1 ", 1), r"class index -1 is not"),
        (RECTANGLE.replace("0 ", "0.5 ", 1), r"class index 0.5 is not"),
        ("0 4 4 24 4 24 14 4 14", r"line 1: coordinate 4 is not within 0 and 1"),
        (RECTANGLE.replace("0.7", "1.02"), r"coordinate 1.02 is not within"),
        (RECTANGLE.replace("0.6", "nan"), r"coordinate nan is not within"),
        ("cat 0.1 0.2 0.6 0.2 0.6 0.7", r"line 1: 'cat 0.1.* is not a class index"),
        ("0,0.1,0.2,0.6,0.2,0.6,0.7", r"line 1: '0,0.1.* is not a class index"),
        (b"\xff\xfe0\x00", r"cannot be read as UTF-8"),
    ],
)
def test_bad_labels(tmp_path: Path, labels: str | bytes, message: str) -> None:
    root = small_set(tmp_path, labels)
    with pytest.raises(DataError, match=message) as error:
        converted(tmp_path)
    assert "b.txt" in str(error.value)
    assert str(error.value).endswith("; correct it")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    conversion = convert_yolo(root, tmp_path / "out", skip_bad=True)
    assert conversion.splits == {"train": (1, 0, 1)}
    assert len(conversion.skipped) == 1


def test_a_split_of_bad_labels_is_left_empty(tmp_path: Path) -> None:
    root = small_set(tmp_path, yaml=f"train: images/train\nval: images/val\n{NAMES}")
    write(root, {"images/val/v.png": None, "labels/val/v.txt": "0 0.5 0.5 0.2 0.2"})
    assert converted(tmp_path, "val", skip_bad=True)["images"] == []


def test_an_unreadable_image(tmp_path: Path) -> None:
    root = small_set(tmp_path)
    (root / "images/train/b.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"b.png: unreadable image .*; replace it$"):
        converted(tmp_path)
    assert len(converted(tmp_path, skip_bad=True)["images"]) == 1


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("names: [no, '2']", {1: "no", 2: "2"}),
        ("names: {0: cat, 7: on}", {1: "cat", 8: "on"}),
        ("names:\n  0: cat # a comment\n  1: sheep dog", {1: "cat", 2: "sheep dog"}),
        ("nc: 2", {1: "0"}),
    ],
)
def test_class_names(tmp_path: Path, names: str, expected: dict[int, str]) -> None:
    small_set(tmp_path, yaml=f"train: images/train\n{names}\n")
    assert {c["id"]: c["name"] for c in converted(tmp_path)["categories"]} == expected


def test_class_names_without_yaml(tmp_path: Path) -> None:
    labels = RECTANGLE.replace("0 ", "1 ", 1)
    root = write(tmp_path / "set", {"images/a.png": None, "labels/a.txt": labels})
    content = converted(tmp_path)  # numbers, from 0 to the largest
    assert [c["name"] for c in content["categories"]] == ["0", "1"]
    write(root, {"classes.txt": "cat\r\nsheep dog\r\n"})
    conversion = convert_yolo(root, tmp_path / "named")
    assert conversion.notes == []
    content = json.loads((tmp_path / "named/annotations/instances_train.json").read_text())
    assert [c["name"] for c in content["categories"]] == ["cat", "sheep dog"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"data.yaml": "train: images/train\nval: gone"}, r"val is gone, which is not there"),
        ({"data.yaml": "train: [images"}, r"data.yaml: not a YAML file"),
        ({"data.yaml": "images/train"}, r"data.yaml: has no keys"),
        (
            {"data.yaml": f"train: images/train\nkpt_shape: [3, 2]\n{NAMES}"},
            r"data.yaml: has kpt_shape, so its labels are keypoints, .*delete kpt_shape",
        ),
        ({"data.yaml": "train: images/train\nnames: {a: 0}"}, r"names must be a list"),
        ({"data.yaml": "train: images/train\nnames: cat"}, r"names must be a list"),
        ({"data.yaml": "train: empty", "empty/notes.md": ""}, r"no images found"),
        ({"data.yaml": "train: other", "other/x.png": None}, r"none of its images has a label"),
    ],
)
def test_no_such_data_set(tmp_path: Path, files: dict[str, str | None], message: str) -> None:
    root = write(small_set(tmp_path), files)
    with pytest.raises(DataError, match=message) as error:
        convert_yolo(root, tmp_path / "out")
    assert "\n" not in str(error.value)
